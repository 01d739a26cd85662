"""Realistic mistakes, which parity/mutants/run.py makes one at a time."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake."""

    name: str
    file: str
    old: str  # occurs once in the file
    new: str
    families: tuple[str, ...]  # of causes, any of which is right
    where: str  # regular expression that the place of the first failure must match
    flags: tuple[str, ...] = ()  # of verify: the network that has the mutated code
    processor: str = ""  # flags that it must have, or must not (-), for the mistake to show


BN, NORMALISE = "flax_resnet/nn/batch_norm.py", "flax_resnet/nn/normalise.py"
MODEL, STEPS = "flax_resnet/model.py", "flax_resnet/steps.py"
OPTIMIZER, AUGMENT = "flax_resnet/optimizer.py", "flax_resnet/augment.py"
TRAINER = "flax_resnet/trainer.py"
STATE, PREDICT, NAMING = "flax_resnet/train_state.py", "flax_resnet/predict.py", "flax_resnet/naming.py"
T_MODEL, T_STEPS, T_OPTIMIZER = "torch_ref/model.py", "torch_ref/steps.py", "torch_ref/optimizer.py"
T_AUGMENT, T_STATE, T_PREDICT = "torch_ref/augment.py", "torch_ref/train_state.py", "torch_ref/predict.py"
T_PROCESSES, T_TRAINER, DEVICES = "torch_ref/processes.py", "torch_ref/trainer.py", "flax_resnet/devices.py"
WINOGRAD, DIRECT = "flax_resnet/cpu_kernels/winograd.h", "flax_resnet/cpu_kernels/direct.h"
AMX = "flax_resnet/cpu_kernels/amx.h"
NATIVE_NORM, OPS = "flax_resnet/cpu_kernels/batch_norm.h", "flax_resnet/cpu_kernels/ops.py"

BLOCK_END = """y = self.conv2(y)
        for layer in self.shortcut:
            x = layer(x)
        return self.bn2(y, residual=x, relu=relu)"""
T_BLOCK_END = """y = self.bn2(self.conv2(y))
        x = self.shortcut(x)
        return F.relu(y + x)"""
STATISTICS = """mean = jnp.mean(x, AXES)
    return mean, jnp.mean(jnp.square(x - mean), AXES)"""
CUTOUT = """    if augment.cutout:
        image = cut_out(image, plan, augment.cutout)
"""
RESIZE = """    if resize_matrix is not None:
        image = resize(image, resize_matrix)
"""
# A CPU has no TF32, which is float32 products of inputs of 10 bits behind the point.
TF32 = """conv_general_dilated=lambda x, kernel, *args, **more: jax.lax.conv_general_dilated(
                jax.lax.reduce_precision(x, 8, 10), jax.lax.reduce_precision(kernel, 8, 10), *args, **more
            ),"""
AVERAGING = "return nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False)"
TIMES = "[p.register_hook(lambda g: g * TIMES) for p in model.parameters()]\n    return "
LEVEL_10 = ("--levels=10",)
NATIVE, WIDE, TILED = ("native kernels",), ("--width=64",), ("--width=32",)
FIRST_NORM, FIRST_STRIDE = r"^bn1", r"^layer2\.0\.conv1"

MUTANTS = [
    # batch norm
    Mutant("momentum by Flax's convention", BN,
           "(1 - self.momentum) * mean + self.momentum * batch_mean",
           "self.momentum * mean + (1 - self.momentum) * batch_mean",
           ("running statistics",), r"^bn1\.running_mean"),
    Mutant("biased running variance", BN, "self.momentum * batch_var * (n / (n - 1))", "self.momentum * batch_var",
           ("running statistics",), r"^bn1\.running_var"),
    Mutant("running mean is not updated", BN,
           "self.mean[...] = (1 - self.momentum) * mean + self.momentum * batch_mean",
           "pass", ("running statistics",), r"^bn1\.running_mean"),
    Mutant("momentum 0.01", BN, "momentum: float = 0.1", "momentum: float = 0.01", ("running statistics",),
           r"^bn1\.running_mean"),
    Mutant("eps 1e-3", BN, "eps: float = 1e-5", "eps: float = 1e-3", ("batch norm",), FIRST_NORM),
    Mutant("eps outside of the root", NORMALISE, "jax.lax.rsqrt(var + eps)", "(1 / (jnp.sqrt(var) + eps))",
           ("batch norm",), FIRST_NORM),
    Mutant("variance instead of deviation", NORMALISE, "jax.lax.rsqrt(var + eps)", "(1 / (var + eps))",
           ("batch norm",), FIRST_NORM),
    Mutant("variance in one pass", NORMALISE, "return mean, jnp.mean(jnp.square(x - mean), AXES)",
           "return mean, jnp.mean(jnp.square(x), AXES) - jnp.square(mean)", ("precision",), FIRST_NORM),
    Mutant("variance about zero in bfloat16", NORMALISE, "jnp.maximum(squares / n - jnp.square(mean), 0)", "squares / n",
           ("batch norm",), r"^layer1\.0\.bn1", ("--cpu-kernels=xla",)),
    Mutant("unbiased variance normalises", NORMALISE, STATISTICS,
           STATISTICS.replace("jnp.mean(jnp.square(x - mean), AXES)", "jnp.var(x, AXES, ddof=1)"),
           ("batch norm",), FIRST_NORM),
    Mutant("statistics of half of the batch", NORMALISE, STATISTICS,
           "half = x[: len(x) // 2]\n    " + STATISTICS.replace("(x", "(half"), ("batch norm",), FIRST_NORM),
    Mutant("batch statistics in eval mode", BN, "if self.use_running_average:", "if False:", ("batch norm",),
           FIRST_NORM),
    Mutant("stale statistics in train mode", BN, "if self.use_running_average:", "if True:", ("batch norm",),
           FIRST_NORM),
    Mutant("scale forgotten", NORMALISE, "(wide - mean) * (r * scale) + bias", "(wide - mean) * r + bias", ("batch norm",), FIRST_NORM),
    Mutant("bias forgotten", NORMALISE, "(wide - mean) * (r * scale) + bias", "(wide - mean) * (r * scale)", ("batch norm",), FIRST_NORM),
    Mutant("statistics cast to float32", BN, "mean, var = self.mean[...], self.var[...]",
           "mean, var = (s[...].astype(jnp.float32).astype(x.dtype) for s in (self.mean, self.var))",
           ("precision",), FIRST_NORM),
    Mutant("inputs cast to bfloat16", BN, "x = x.astype(self.dtype)",
           "x = x.astype(jnp.bfloat16).astype(self.dtype)", ("precision",), FIRST_NORM),
    # the network
    Mutant("convolutions in TF32", MODEL, "**(NNX_CONV if self.cpu_kernels else {}),", TF32, ("precision",), r"^conv1"),
    Mutant("SAME padding", MODEL, "padding=kernel // 2,", 'padding="SAME",', ("convolution",), FIRST_STRIDE),
    Mutant("ReLU's result is dropped", MODEL,
           "y = self.bn1(self.conv1(x), relu=self.relu)\n", "y = self.bn1(self.conv1(x))\n        self.relu(y)\n",
           ("activation",), r"^layer1\.0\.conv2"),
    Mutant("a ReLU is missing", MODEL, "y = self.bn1(self.conv1(x), relu=self.relu)\n",
           "y = self.bn1(self.conv1(x))\n", ("structure",), r"^row 6$"),
    Mutant("ReLU before the sum", MODEL, BLOCK_END, BLOCK_END.replace("self.bn2(y, residual=x, relu=relu)", "self.bn2(y, relu=relu) + x"),
           ("activation",), r"^layer1\.0$"),
    Mutant("no ReLU after the sum", MODEL, BLOCK_END, BLOCK_END.replace(", relu=relu", ""),
           ("activation",), r"^layer1\.0$"),
    Mutant("shortcut not added", MODEL, BLOCK_END, BLOCK_END.replace("residual=x, ", ""), ("wiring",), r"^layer1\.0$"),
    Mutant("shortcut taken behind the first convolution", MODEL, BLOCK_END,
           BLOCK_END.replace("x = layer(x)", "x = 2 * layer(x)"), ("wiring",), r"^layer2\.0"),
    Mutant("shortcut's convolution and batch norm swapped", MODEL,
           "[layers.conv(inputs, outputs, 1, stride), layers.norm(outputs)]",
           "[layers.norm(inputs), layers.conv(inputs, outputs, 1, stride)]",
           ("structure",), r"^layer2\.0\.shortcut\.0\.weight"),
    Mutant("stride in the second convolution", MODEL,
           "self.conv1 = layers.conv(inputs, width, 3, stride)\n        self.bn1 = layers.norm(width)\n"
           "        self.relu = ReLU()\n        self.conv2 = layers.conv(width, width, 3)",
           "self.conv1 = layers.conv(inputs, width, 3)\n        self.bn1 = layers.norm(width)\n"
           "        self.relu = ReLU()\n        self.conv2 = layers.conv(width, width, 3, stride)",
           ("structure",), r"^row "),
    Mutant("stride in a bottleneck's first convolution", MODEL,
           "self.conv1 = layers.conv(inputs, width, 1)\n        self.bn1 = layers.norm(width)\n"
           "        self.relu1 = ReLU()\n        self.conv2 = layers.conv(width, width, 3, stride)",
           "self.conv1 = layers.conv(inputs, width, 1, stride)\n        self.bn1 = layers.norm(width)\n"
           "        self.relu1 = ReLU()\n        self.conv2 = layers.conv(width, width, 3)",
           ("structure",), r"^row ", ("--arch=resnet50",)),
    Mutant("max-pool is an average pool", MODEL, "nnx.max_pool(", "nnx.avg_pool(", ("pooling",),
           r"^layer1\.0 input", ("--stem=cifar_pool",)),
    Mutant("max-pool padded as SAME", MODEL, "padding=((1, 1), (1, 1)))", 'padding="SAME")', ("pooling",),
           r"^layer1\.0 input", ("--stem=cifar_pool",)),
    Mutant("maximum instead of global mean", MODEL, "jnp.mean(x, axis=(1, 2))", "jnp.max(x, axis=(1, 2))",
           ("pooling",), r"^linear"),
    Mutant("new channels all at the end", MODEL, "(self.pad, self.pad))", "(0, 2 * self.pad))", ("wiring",),
           r"^layer2\.0$", ("--arch=resnet20",)),
    Mutant("shortcut takes the odd pixels", MODEL, "x[:, :: self.stride, :: self.stride]",
           "x[:, 1 :: self.stride, 1 :: self.stride]", ("wiring",), r"^layer2\.0$",
           ("--arch=resnet20",)),
    # names and layouts
    Mutant("height and width of kernels swapped", NAMING, "4: (3, 2, 0, 1)", "4: (3, 2, 1, 0)",
           ("convolution",), r"^conv1"),
    Mutant("kernels flipped", NAMING, "return array.transpose(np.argsort(_torch_axes(array.ndim)))",
           "return array.transpose(np.argsort(_torch_axes(array.ndim)))[:: -1 if array.ndim == 4 else 1]",
           ("convolution",), r"^conv1"),
    Mutant("linear layer kept as it is", NAMING, "2: (1, 0)", "2: (0, 1)", ("structure",), r"^linear\.weight"),
    # loss
    Mutant("loss is summed", STEPS, "optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()",
           "optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()", ("loss",), r"^loss"),
    Mutant("label smoothing ignored", STEPS, "if not label_smoothing:", "if True:", ("loss",), r"^loss"),
    Mutant("label smoothing halved", STEPS, "dtype=logits.dtype), label_smoothing\n",
           "dtype=logits.dtype), label_smoothing / 2\n", ("loss",), r"^loss"),
    Mutant("the trainer has no label smoothing", TRAINER,
           "make_train_step(graphdef, optimizer, run.label_smoothing)", "make_train_step(graphdef, optimizer, 0.0)",
           ("loss",), r"^epoch 1: loss"),
    # optimizer and schedule
    Mutant("decay after momentum", OPTIMIZER,
           "optax.add_decayed_weights(options.weight_decay),\n        optax.sgd(make_schedule(schedule), "
           "momentum=options.momentum, nesterov=options.nesterov),",
           "optax.sgd(make_schedule(schedule), momentum=options.momentum, nesterov=options.nesterov),\n"
           "        optax.add_decayed_weights(options.weight_decay),",
           ("weight decay",), r"^step 0: params"),
    Mutant("decoupled decay on lr", OPTIMIZER,
           "optax.add_decayed_weights(options.weight_decay),\n        optax.sgd(make_schedule(schedule), "
           "momentum=options.momentum, nesterov=options.nesterov),",
           "optax.trace(options.momentum, options.nesterov) if options.momentum else optax.identity(),\n"
           "        optax.add_decayed_weights(options.weight_decay),\n"
           "        optax.scale_by_learning_rate(make_schedule(schedule)),",
           ("weight decay",), r"^step 0: momentum"),
    Mutant("no decay of biases and scales", OPTIMIZER, "optax.add_decayed_weights(options.weight_decay)",
           "optax.add_decayed_weights(options.weight_decay, "
           'mask=lambda tree: __import__("jax").tree.map(lambda leaf: leaf.ndim > 1, tree))',
           ("weight decay",), r"^step 0: params .*(bn|bias)"),
    Mutant("Nesterov off", OPTIMIZER, "nesterov=options.nesterov", "nesterov=False", ("momentum",),
           r"^step 0: params"),
    Mutant("momentum 0.99", OPTIMIZER, "momentum=options.momentum,", "momentum=0.99 if options.momentum else 0.0,",
           ("momentum",), r"^step 1: params"),
    Mutant("lr always drops to a tenth", OPTIMIZER, "schedule.factor**count", "0.1**count", ("learning rate",),
           r"^step 50"),
    Mutant("lr drops a step early", OPTIMIZER, "{step - schedule.warmup:", "{step - 1 - schedule.warmup:",
           ("learning rate",), r"^step 49"),
    Mutant("lr drops a step late", OPTIMIZER, "{step - schedule.warmup:", "{step + 1 - schedule.warmup:",
           ("learning rate",), r"^step 50"),
    Mutant("boundaries count from the warm-up's end", OPTIMIZER, "{step - schedule.warmup:", "{step:",
           ("learning rate",), r"^step 50"),
    Mutant("warm-up from zero", OPTIMIZER, "optax.linear_schedule(schedule.start * schedule.peak,",
           "optax.linear_schedule(0.0,", ("learning rate",), r"^step 0"),
    Mutant("cosine over all steps", OPTIMIZER,
           "optax.cosine_decay_schedule(schedule.peak, schedule.total - schedule.warmup)",
           "optax.cosine_decay_schedule(schedule.peak, schedule.total)", ("learning rate",), r"^step 11"),
    Mutant("schedule in float32", OPTIMIZER, "return lambda step: decay(jnp.asarray(step, float))",
           "return decay", ("learning rate", "precision"), r"^step "),
    # input pipeline
    Mutant("crop a row off", AUGMENT, 'plan["crop_y"][:, None] - pad', 'plan["crop_y"][:, None] - pad + 1',
           ("pipeline",), r"bytes after crop"),
    Mutant("crop offsets swapped", AUGMENT, 'columns = plan["crop_x"]', 'columns = plan["crop_y"]',
           ("pipeline",), r"bytes after crop"),
    Mutant("flipped top-bottom", AUGMENT,
           'columns = jnp.where(plan["flip"][:, None] == 1, columns[:, ::-1], columns)',
           'rows = jnp.where(plan["flip"][:, None] == 1, rows[:, ::-1], rows)', ("pipeline",), r"bytes after crop"),
    Mutant("flipped the other half", AUGMENT, 'plan["flip"][:, None] == 1', 'plan["flip"][:, None] == 0',
           ("pipeline",), r"bytes after crop"),
    Mutant("reflection repeats the edge", AUGMENT, "return size - 1 - jnp.abs(size - 1 - jnp.abs(position))",
           "return jnp.where(position < 0, -1 - position, jnp.where(position >= size, 2 * size - 1 - position, position))",
           ("pipeline",), r"bytes after crop"),
    Mutant("red and blue swapped", AUGMENT, "table[images.astype(jnp.int32), jnp.arange(3)]",
           "table[images.astype(jnp.int32)[..., ::-1], jnp.arange(3)]", ("pipeline",), r"floats"),
    Mutant("cutout a row off", AUGMENT, '(plan["cutout_y"][:, None] - side // 2)',
           '(plan["cutout_y"][:, None] - side // 2 + 1)', ("pipeline",), r"floats"),
    Mutant("resized along one axis with the other's neighbour", AUGMENT, '"ih,bhwc,jw->bijc", matrix, batch, matrix',
           '"ih,bhwc,jw->bijc", matrix, batch, jnp.roll(matrix, 1, 1)', ("pipeline",), r"to 20 pixels"),
    Mutant("resized without antialiasing", AUGMENT, 'jnp.einsum("ih,bhwc,jw->bijc", matrix, batch, matrix, precision=jax.lax.Precision.HIGHEST)',
           'jax.image.resize(batch, (len(batch), len(matrix), len(matrix), 3), "bilinear", antialias=False)',
           ("pipeline",), r"to 20 pixels"),
    Mutant("cutout behind the resizing", AUGMENT, CUTOUT + RESIZE, RESIZE + CUTOUT, ("pipeline",), r"^step 0$"),
    Mutant("an epoch's last batch is left out", TRAINER, "self._mesh.put(dataclasses.asdict(plan), self._mesh.plan)",
           "self._mesh.put({name: rows[:-1] for name, rows in dataclasses.asdict(plan).items()}, self._mesh.plan)",
           ("pipeline",), r"^step 10$"),
    Mutant("images keep their size", TRAINER, "if image_size is not None:", "if False:", ("pipeline",),
           r"^step 1$"),
    Mutant("labels in the dataset's order", AUGMENT, 'data["label"][plan["index"]]',
           'data["label"][: len(plan["index"])]', ("pipeline",), r"labels"),
    Mutant("variance instead of deviation in the table", PREDICT,
           "standardisation_table(description.mean, description.std)",
           "standardisation_table(description.mean, [s * s for s in description.std])", ("pipeline",), r"floats"),
    # steps and state
    Mutant("one step of those in a program", TRAINER, "loop=self._steps_per_dispatch > 1,", "loop=not self.on_cpu,",
           ("state",), r"^epoch 1: loss"),
    Mutant("the last loss for the epoch's sum", STEPS, 'sums["loss"] + metrics["loss"]', 'metrics["loss"]', ("state",),
           r"^epoch 1: loss"),
    Mutant("sums of before an interruption are lost", TRAINER, "self._set_sums(sums)", "self.reset_sums()", ("state",),
           r"^torch → jax"),
    Mutant("every run from seed 0", TRAINER, "initial_state(run.seed,", "initial_state(0,", ("state",),
           r"^epoch 1: loss"),
    Mutant("the batch of the next step", STEPS, "rows[state.step % len(rows)]", "rows[(state.step + 1) % len(rows)]",
           ("pipeline",), r"^step 1$"),
    Mutant("new statistics are thrown away", STEPS, "return TrainState(state.step + 1, params, batch_stats, opt_state)",
           "return TrainState(state.step + 1, params, state.batch_stats, opt_state)",
           ("running statistics",), r"^step 1$"),
    Mutant("momentum not transferred", STATE,
           'fit(saved["momentum"], state.params) if "momentum" in saved else zeros', "zeros", ("state",), r"^step 2$"),
    Mutant("the optimizer's count not transferred", STATE, "count=jnp.asarray(step, jnp.int32)",
           "count=jnp.zeros((), jnp.int32)", ("learning rate",), r"^step 16$"),
    Mutant("another seed's weights", STATE, "initial_weights.draw(seed,", "initial_weights.draw(seed + 1,",
           ("state",), r"^initial weights"),
    Mutant("initial weights by Flax's default", STATE,
           "jnp.asarray(to_flax_layout(drawn[torch_key(p)]), leaf.dtype)",
           'jax.nn.initializers.lecun_normal()(jax.random.key(seed), leaf.shape, leaf.dtype) if p[-1] == "kernel"'
           " else jnp.asarray(to_flax_layout(drawn[torch_key(p)]), leaf.dtype)",
           ("state",), r"^initial weights"),
    # the same kinds in PyTorch
    Mutant("PyTorch: eps 1e-3", T_MODEL, "self.bn1 = nn.BatchNorm2d(channels)",
           "self.bn1 = nn.BatchNorm2d(channels, eps=1e-3)", ("batch norm",), FIRST_NORM),
    Mutant("PyTorch: momentum 0.01", T_MODEL, "self.bn1 = nn.BatchNorm2d(channels)",
           "self.bn1 = nn.BatchNorm2d(channels, momentum=0.01)", ("running statistics",), r"^bn1\.running_mean"),
    Mutant("PyTorch: padding by reflection", T_MODEL, "padding=kernel // 2, bias=False",
           'padding=kernel // 2, padding_mode="reflect", bias=False', ("convolution",), r"^conv1"),
    Mutant("PyTorch: ReLU before the sum", T_MODEL, T_BLOCK_END, T_BLOCK_END.replace("relu(y + x)", "relu(y) + x"),
           ("activation",), r"^layer1\.0$"),
    Mutant("PyTorch: max-pool is an average pool", T_MODEL, "F.max_pool2d(", "F.avg_pool2d(", ("pooling",),
           r"^layer1\.0 input", ("--stem=cifar_pool",)),
    Mutant("PyTorch: loss is summed", T_STEPS, "label_smoothing=label_smoothing)",
           'label_smoothing=label_smoothing, reduction="sum")', ("loss",), r"^loss"),
    Mutant("PyTorch: a step in eval mode", T_STEPS, "model.train()", "model.eval()",
           ("running statistics",), r"^step 1$"),
    Mutant("PyTorch: dampening", T_OPTIMIZER, "momentum=options.momentum,",
           "momentum=options.momentum,\n        dampening=0.0 if options.nesterov else 0.1,", ("momentum",), r"^step 1: "),
    Mutant("PyTorch: lr always drops to a tenth", T_OPTIMIZER, "lr * schedule.factor", "lr * 0.1", ("learning rate",),
           r"^step 50"),
    Mutant("PyTorch: lr drops a step early", T_OPTIMIZER, "if step >= boundary", "if step + 1 >= boundary",
           ("learning rate",), r"^step 49"),
    Mutant("PyTorch: flipped top-bottom", T_AUGMENT,
           'columns = torch.where(plan["flip"][:, None] == 1, columns.flip(1), columns)',
           'rows = torch.where(plan["flip"][:, None] == 1, rows.flip(1), rows)', ("pipeline",), r"bytes after crop"),
    Mutant("PyTorch: momentum not transferred", T_STATE, 'for name, buffer in saved["momentum"].items():',
           "for name, buffer in ():", ("state",), r"^step 2$"),
    Mutant("PyTorch: mean taken for zero", T_PREDICT, "standardisation_table(description.mean, description.std)",
           "standardisation_table((0, 0, 0), description.std)", ("pipeline",), r"floats"),
    # several processes
    Mutant("PyTorch: a process's own statistics", T_PROCESSES, "if type(child) is nn.BatchNorm2d:", "if False:",
           ("batch norm",), r"^step 1: ", LEVEL_10),
    Mutant("PyTorch: gradients summed over processes", T_PROCESSES, AVERAGING,
           AVERAGING.replace("return ", TIMES.replace("TIMES", "dist.get_world_size()")), ("gradient",),
           r"^step 1: ", LEVEL_10),
    Mutant("PyTorch: gradients averaged twice", T_PROCESSES, AVERAGING,
           AVERAGING.replace("return ", TIMES.replace("TIMES", "1 / dist.get_world_size()")), ("gradient",),
           r"^step 1: ", LEVEL_10),
    Mutant("PyTorch: all processes take one share", T_PROCESSES,
           "slice(world.index * share, (world.index + 1) * share)", "slice(0, share)", ("pipeline",), r"^step 1: ",
           LEVEL_10),
    Mutant("PyTorch: shares of different sizes", T_PROCESSES,
           "slice(world.index * share, (world.index + 1) * share)",
           "slice(world.index * share + min(world.index, 1), (world.index + 1) * share + 1)", ("pipeline",),
           r"^step 1: ", LEVEL_10),
    Mutant("PyTorch: sums of one process", T_TRAINER,
           'all_sum(torch.stack([own["loss"].double() / self._world.count, own["correct"].double()]))',
           'torch.stack([own["loss"].double(), own["correct"].double() * self._world.count])', ("state",),
           r"^epoch 1: ", LEVEL_10),
    Mutant("all processes take one share", DEVICES, "lambda index: array[index]",
           "lambda index: array[tuple(slice(0, i.stop and i.stop - (i.start or 0)) for i in index)]",
           ("pipeline",), r"^step 1: ", LEVEL_10),
    # the native kernels
    Mutant("native: a sign in Winograd's transform of the input", WINOGRAD, "t[2][b] = d2 - d1,", "t[2][b] = d1 - d2,",
           NATIVE, r"^layer1\.0\.conv1", WIDE),
    Mutant("native: a sign in Winograd's transform of the output", WINOGRAD, "t[1][b] = m1 - m2 - m3;",
           "t[1][b] = m1 - m2 + m3;", NATIVE, r"^layer1\.0\.conv1", WIDE),
    Mutant("native: of two bfloat16 numbers the second is lost", WINOGRAD, "values[i] = points[i][p]",
           "values[i] = points[0][p]", NATIVE, r"^layer1\.0\.conv1", WIDE, "avx512_bf16 -amx_bf16"),
    Mutant("native: tiles begin a pixel late", WINOGRAD, "x.pixels<4>(from, first + t, 1,",
           "x.pixels<4>(from, first + t, 0,", NATIVE, r"^layer1\.0\.conv1", WIDE),
    Mutant("native: kernel not turned around for the input's gradient", WINOGRAD, "(8 - 3 * a - b)", "(3 * a + b)",
           NATIVE, r"^layer1\.0\.conv1 dinput", WIDE),
    Mutant("native: the last tiles are missing in the kernel's gradient", WINOGRAD, "first < tiles; first += size",
           "first + size < tiles; first += size", NATIVE, r"^layer1\.0\.conv1 dweight", WIDE),
    Mutant("native: AMX takes the first 16 images twice", AMX, "multiply(left, left + group_size, right)",
           "multiply(left, left, right)", NATIVE, r"^layer1\.0\.conv1", TILED, "amx_bf16"),
    Mutant("native: AMX pairs a kernel's entries the wrong way", AMX, "pairs(rounded(numbers), rounded(numbers + outputs))",
           "pairs(rounded(numbers + outputs), rounded(numbers))", NATIVE, r"^layer1\.0\.conv1", TILED, "amx_bf16"),
    Mutant("native: AMX turns the kernel around for the input's gradient", AMX, "from = at + s.padding - entry;",
           "from = at - s.padding + entry;", NATIVE, r"^layer1\.0\.conv1 dinput", TILED, "amx_bf16"),
    Mutant("native: AMX keeps a kernel's gradient of the last rows only", AMX, "if (begin || first) sum =",
           "if (false) sum =", NATIVE, r"^layer1\.0\.conv1 dweight", TILED, "amx_bf16"),
    Mutant("native: AMX forgets the stride in a kernel's gradient", AMX, "column = j * s.stride + b - s.padding",
           "column = j + b - s.padding", NATIVE, r"^layer2\.0\.conv1 dweight", TILED, "amx_bf16"),
    Mutant("native: inputs and outputs of a kernel swapped", DIRECT, "memory::desc(w, kernel_type, tag::hwio);",
           "memory::desc(w, kernel_type, tag::cdab);", NATIVE, r"^conv1"),
    Mutant("native: unbiased variance normalises", NATIVE_NORM, "var[c] = float(s / n);", "var[c] = float(s / (n - 1));",
           NATIVE, r"^layer2\.0\.bn1"),  # where n is small enough for a bound of n roundings
    Mutant("native: blocks joined with wrong weights", NATIVE_NORM, "partial.rows += n;", "partial.rows = n;", NATIVE,
           FIRST_NORM, WIDE),
    Mutant("native: the residual is not added", NATIVE_NORM, "if (ADD) value += load(r[c]);", "", NATIVE,
           r"^layer1\.0$"),
    Mutant("native: no mask in the gradient of the sum's ReLU", NATIVE_NORM,
           "if (MASK == FROM_Y) return load(y[c]) > 0.f ? dy : 0.f;", "if (MASK == FROM_Y) return dy;", NATIVE,
           r"^layer4\.1\.bn2"),
    Mutant("native: the batch's statistics count as constants in the gradient", NATIVE_NORM, "tilt[c] = training ?",
           "tilt[c] = false ?", NATIVE, r"^bn1 dinput"),
    Mutant("native: gradients of scale and bias swapped", OPS, "return dx, dscale, dbias, None",
           "return dx, dbias, dscale, None", NATIVE, r"^bn1 d"),
]  # fmt: skip
