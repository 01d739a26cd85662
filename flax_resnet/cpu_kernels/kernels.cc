// The kernels as functions that XLA calls. See README.md in this folder.
//
// Activations are NHWC and kernels HWIO, row-major, in float32 or bfloat16; statistics, batch norm's parameters
// and all sums are float32 or better.

#include <sys/mman.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "amx.h"
#include "batch_norm.h"
#include "direct.h"
#include "shape.h"
#include "winograd.h"
#include "worker.h"
#include "xla/ffi/api/ffi.h"

namespace {

using namespace cpu_kernels;
using Buffer = ffi::AnyBuffer;

// Unless malloc keeps its memory (recipe/system/memory.py), XLA takes its buffers from the system at every step and gives them
// back, so that each page of a result is mapped and cleared when it is first written. That is a tenth or so of a step
// in pages of 4 KiB, and less in pages of 2 MiB.
void ask_for_huge_pages(const Buffer& result) {
  constexpr uintptr_t HUGE = 1 << 21;
  const auto address = reinterpret_cast<uintptr_t>(result.untyped_data());
  if (result.size_bytes() < HUGE) return;
  const uintptr_t begin = address / HUGE * HUGE, end = (address + result.size_bytes() + HUGE - 1) / HUGE * HUGE;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: it may be refused
}

float* floats(const Buffer& buffer) { return static_cast<float*>(buffer.untyped_data()); }
bfloat16* bfloat16s(const Buffer& buffer) { return static_cast<bfloat16*>(buffer.untyped_data()); }

dnnl::memory::data_type type_of(const Buffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::F32: return dnnl::memory::data_type::f32;
    case ffi::BF16: return dnnl::memory::data_type::bf16;
    default: throw std::invalid_argument("float32 or bfloat16 expected");
  }
}

// ---- convolution -----------------------------------------------------------------------------------------------

// Throws unless they fit: what is wrong would otherwise be read and written out of bounds.
Shape shape_of(const Buffer& x, const Buffer& kernel, const Buffer& y, int64_t stride, int64_t padding) {
  for (const auto* b : {&x, &kernel, &y})
    if (b->dimensions().size() != 4) throw std::invalid_argument("arrays with four dimensions expected");
  const auto a = x.dimensions(), k = kernel.dimensions(), b = y.dimensions();
  if (stride < 1 || padding < 0) throw std::invalid_argument("a stride of 1 or more and no negative padding expected");
  const Shape s{a[0], a[1], a[2], a[3], k[0], k[3], b[1], b[2], stride, padding};
  const auto sides = [&](int64_t side) { return (side + 2 * padding - s.side) / stride + 1; };
  for (const auto size : {s.n, s.height, s.width, s.inputs, s.side, s.outputs, s.out_height, s.out_width})
    if (size < 1) throw std::invalid_argument("arrays that are not empty expected");
  if (b[0] != s.n || k[1] != s.side || k[2] != s.inputs || b[3] != s.outputs || s.out_height != sides(s.height) ||
      s.out_width != sides(s.width) || type_of(x) != type_of(y))
    throw std::invalid_argument("a kernel that fits the activations expected");
  return s;
}

ffi::Error convolve(Kind kind, const Buffer& x, const Buffer& kernel, const Buffer& y, int64_t stride, int64_t padding,
                    std::string_view algorithm) {
  return Worker::instance().run([&] {
    const Shape s = shape_of(x, kernel, y, stride, padding);
    const bool single = x.element_type() == ffi::F32;
    const auto require_channels = [&](int64_t multiple) {
      if (kernel.element_type() != ffi::F32 || s.inputs % multiple || s.outputs % multiple)
        throw std::invalid_argument(std::string(algorithm) + " is for float32 kernels, and channels in multiples of " +
                                    std::to_string(multiple));
    };
    ask_for_huge_pages(kind == FORWARD ? y : kind == INPUT_GRAD ? x : kernel);
    if (algorithm == "onednn") {
      direct::convolve(kind, s, type_of(x), type_of(kernel), x.untyped_data(), kernel.untyped_data(), y.untyped_data());
    } else if (algorithm == "winograd") {
      require_channels(winograd::PANEL);
      if (s.side != 3 || stride != 1 || padding != 1)
        throw std::invalid_argument("winograd is for kernels of 3x3, stride 1 and padding 1");
      if (single)
        winograd::convolve(kind, s, floats(x), floats(kernel), floats(y));
      else
        winograd::convolve(kind, s, bfloat16s(x), floats(kernel), bfloat16s(y));
    } else if (algorithm == "amx") {
      require_channels(amx::CHANNELS);
      if (single) throw std::invalid_argument("amx is for bfloat16");
      if (s.side > amx::LARGEST_SIDE)
        throw std::invalid_argument("amx is for kernels of up to " + std::to_string(amx::LARGEST_SIDE) + " pixels");
      if (!amx::available()) throw std::invalid_argument("amx is for processors that have it");
      amx::convolve(kind, s, bfloat16s(x), floats(kernel), bfloat16s(y));
    } else {
      throw std::invalid_argument("onednn, winograd or amx expected, not " + std::string(algorithm));
    }
  });
}

ffi::Error conv_forward(Buffer x, Buffer kernel, ffi::Result<Buffer> y, int64_t stride, int64_t padding,
                        std::string_view algorithm) {
  return convolve(FORWARD, x, kernel, *y, stride, padding, algorithm);
}

ffi::Error conv_input_grad(Buffer dy, Buffer kernel, ffi::Result<Buffer> dx, int64_t stride, int64_t padding,
                           std::string_view algorithm) {
  return convolve(INPUT_GRAD, *dx, kernel, dy, stride, padding, algorithm);
}

ffi::Error conv_weight_grad(Buffer x, Buffer dy, ffi::Result<Buffer> dkernel, int64_t stride, int64_t padding,
                            std::string_view algorithm) {
  return convolve(WEIGHT_GRAD, x, *dkernel, dy, stride, padding, algorithm);
}

// ---- batch norm ------------------------------------------------------------------------------------------------

// Throws unless all `vectors` are float32 and have a value per channel of x, all `maps` are like x, and the `optional`
// ones either all like x or all empty: what is wrong would otherwise be read and written out of bounds.
void require(const Buffer& x, std::initializer_list<const Buffer*> vectors, std::initializer_list<const Buffer*> maps,
             std::initializer_list<const Buffer*> optional) {
  if (x.dimensions().size() == 0 || x.element_count() == 0) throw std::invalid_argument("an empty activation");
  for (const auto* v : vectors)
    if (v->element_type() != ffi::F32 || int64_t(v->element_count()) != x.dimensions().back())
      throw std::invalid_argument("a float32 vector with one value per channel expected");
  const bool all = (*optional.begin())->element_count();
  const auto like_x = [&](const Buffer* m, size_t count) {
    if (m->element_type() != x.element_type() || m->element_count() != count)
      throw std::invalid_argument("activations of one shape and dtype expected");
  };
  for (const auto* m : maps) like_x(m, x.element_count());
  for (const auto* m : optional) like_x(m, all ? x.element_count() : 0);
}

// `residual` is empty, of shape (0,), where there is none
template <class T>
void forward_of(const Buffer& x, const Buffer& residual, const Buffer& scale,
                const Buffer& bias, const Buffer& y, float* mean, float* var, float eps, bool relu,
                bool training) {
  const int64_t channels = x.dimensions().back();
  norm_forward(static_cast<const T*>(x.untyped_data()),
               residual.element_count() ? static_cast<const T*>(residual.untyped_data()) : nullptr, floats(scale),
               floats(bias), static_cast<T*>(y.untyped_data()), mean, var, int64_t(x.element_count()) / channels,
               channels, eps, relu, training);
}

ffi::Error norm_train(Buffer x, Buffer residual, Buffer scale, Buffer bias,
                      ffi::Result<Buffer> y, ffi::Result<Buffer> mean, ffi::Result<Buffer> var,
                      float eps, bool relu) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &*mean, &*var}, {&*y}, {&residual});
    ask_for_huge_pages(*y);
    (type_of(x) == dnnl::memory::data_type::f32 ? forward_of<float> : forward_of<bfloat16>)(
        x, residual, scale, bias, *y, floats(*mean), floats(*var), eps, relu, true);
  });
}

ffi::Error norm_eval(Buffer x, Buffer residual, Buffer scale, Buffer bias,
                     Buffer mean, Buffer var, ffi::Result<Buffer> y, float eps, bool relu) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &mean, &var}, {&*y}, {&residual});
    ask_for_huge_pages(*y);
    (type_of(x) == dnnl::memory::data_type::f32 ? forward_of<float> : forward_of<bfloat16>)(
        x, residual, scale, bias, *y, floats(mean), floats(var), eps, relu, false);
  });
}

// `y` is empty where there is no ReLU, or its mask can be had from x; `dresidual` where there is no residual
template <class T>
void backward_of(const Buffer& dy, const Buffer& x, const Buffer& y,
                 const Buffer& scale, const Buffer& bias, const Buffer& mean,
                 const Buffer& var, const Buffer& dmean, const Buffer& dvar,
                 const Buffer& dx, const Buffer& dresidual, const Buffer& dscale,
                 const Buffer& dbias, float eps, bool relu, bool training) {
  const int64_t channels = x.dimensions().back();
  const auto chosen = !relu ? norm_backward<NONE, T>
                            : y.element_count() ? norm_backward<FROM_Y, T> : norm_backward<FROM_X, T>;
  chosen(static_cast<const T*>(dy.untyped_data()), static_cast<const T*>(x.untyped_data()),
         static_cast<const T*>(y.untyped_data()), floats(scale), floats(bias), floats(mean), floats(var),
         floats(dmean), floats(dvar), static_cast<T*>(dx.untyped_data()), static_cast<T*>(dresidual.untyped_data()),
         floats(dscale), floats(dbias), int64_t(x.element_count()) / channels, channels, eps, training);
}

ffi::Error norm_grad(Buffer dy, Buffer x, Buffer y, Buffer scale, Buffer bias,
                     Buffer mean, Buffer var, Buffer dmean, Buffer dvar,
                     ffi::Result<Buffer> dx, ffi::Result<Buffer> dresidual,
                     ffi::Result<Buffer> dscale, ffi::Result<Buffer> dbias, float eps, bool relu,
                     bool training) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &mean, &var, &dmean, &dvar, &*dscale, &*dbias}, {&dy, &*dx}, {&y, &*dresidual});
    ask_for_huge_pages(*dx);
    ask_for_huge_pages(*dresidual);
    (type_of(x) == dnnl::memory::data_type::f32 ? backward_of<float> : backward_of<bfloat16>)(
        dy, x, y, scale, bias, mean, var, dmean, dvar, *dx, *dresidual, *dscale, *dbias, eps, relu, training);
  });
}

auto conv_binding() {
  return ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Ret<Buffer>()
      .Attr<int64_t>("stride").Attr<int64_t>("padding").Attr<std::string_view>("algorithm");
}

}  // namespace

// For ops.py, which chooses.
extern "C" bool resnet_has_amx() { return amx::available(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_conv_forward, conv_forward, conv_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_conv_input_grad, conv_input_grad, conv_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_conv_weight_grad, conv_weight_grad, conv_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_norm_train, norm_train,
                              ffi::Ffi::Bind()
                                  .Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>()
                                  .Ret<Buffer>().Ret<Buffer>().Ret<Buffer>()
                                  .Attr<float>("eps").Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_norm_eval, norm_eval,
                              ffi::Ffi::Bind()
                                  .Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<float>("eps").Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(resnet_norm_grad, norm_grad,
                              ffi::Ffi::Bind()
                                  .Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>()
                                  .Arg<Buffer>().Arg<Buffer>().Arg<Buffer>()
                                  .Ret<Buffer>().Ret<Buffer>().Ret<Buffer>().Ret<Buffer>()
                                  .Attr<float>("eps").Attr<bool>("relu").Attr<bool>("training"));
