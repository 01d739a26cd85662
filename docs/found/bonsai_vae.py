"""jax-ml/bonsai's VAE of Stable Diffusion (NNX) beside diffusers 0.35.2 AutoencoderKL, with bonsai's own converter: group norm, attention, upsampling."""
import tempfile
import numpy as np
import parity
from bonsai.models.vae import modeling, params
from diffusers import AutoencoderKL
from flax import nnx
from safetensors.numpy import save_file


def pair():
    torch_model = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[8, 16, 32, 32],
                                layers_per_block=2, norm_num_groups=4)
    config = modeling.ModelConfig([8, 16, 32, 32], 4, 4)

    def weights(tensors):  # the published checkpoint has the attention's older names
        with tempfile.TemporaryDirectory() as folder:
            for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                tensors = {name.replace(new, old): x for name, x in tensors.items()}
            save_file(tensors, folder + "/model.safetensors")
            return params.create_model_from_safe_tensors(folder, config)
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    return parity.Pair(torch_model, modeling.VAE(config, rngs=nnx.Rngs(0)), inputs=[images], weights=weights, torch_call=lambda m, x, train: m(x).sample)
