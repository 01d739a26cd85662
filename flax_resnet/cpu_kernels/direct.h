// Convolutions by oneDNN.

#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "dnnl.hpp"
#include "scratch.h"
#include "shape.h"

namespace cpu_kernels::direct {

using dnnl::memory;
using Dims = memory::dims;

inline dnnl::engine& engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

inline dnnl::stream& stream() {
  static dnnl::stream stream(engine());
  return stream;
}

// A convolution of one shape, with the memory in the kernel layout that oneDNN likes best.
struct Convolution {
  dnnl::primitive primitive;
  memory x, kernel, y;    // what the primitive works on; handles are set at each call
  memory user_kernel;     // HWIO
  dnnl::reorder reorder;  // between the two
  bool reordered;
};

inline Convolution make_convolution(Kind kind, const Shape& s, memory::data_type type, memory::data_type kernel_type) {
  using tag = memory::format_tag;
  // as oneDNN names them: (N, C, H, W) and (O, I, H, W)
  const Dims x{s.n, s.inputs, s.height, s.width}, w{s.outputs, s.inputs, s.side, s.side},
      y{s.n, s.outputs, s.out_height, s.out_width};
  const auto nhwc_x = memory::desc(x, type, tag::nhwc), nhwc_y = memory::desc(y, type, tag::nhwc);
  const auto any_w = memory::desc(w, type, tag::any);
  // a kernel's gradient leaves in the kernel's own type: it is summed in float32 anyway
  const auto any_dw = memory::desc(w, kernel_type, tag::any);
  const auto hwio = memory::desc(w, kernel_type, tag::hwio);
  const Dims strides{s.stride, s.stride}, padding_l{s.padding, s.padding},
      padding_r{(y[2] - 1) * s.stride + w[2] - x[2] - s.padding, (y[3] - 1) * s.stride + w[3] - x[3] - s.padding};
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const auto forward = dnnl::convolution_forward::primitive_desc(
      engine(), dnnl::prop_kind::forward_training, algorithm, nhwc_x, any_w, nhwc_y, strides, padding_l, padding_r);
  Convolution c;
  memory::desc inner_w;
  if (kind == FORWARD) {
    c.primitive = dnnl::convolution_forward(forward);
    inner_w = forward.weights_desc();
  } else if (kind == INPUT_GRAD) {
    auto pd = dnnl::convolution_backward_data::primitive_desc(engine(), algorithm, nhwc_x, any_w, nhwc_y, strides,
                                                              padding_l, padding_r, forward);
    c.primitive = dnnl::convolution_backward_data(pd);
    inner_w = pd.weights_desc();
  } else {
    auto pd = dnnl::convolution_backward_weights::primitive_desc(engine(), algorithm, nhwc_x, any_dw, nhwc_y, strides,
                                                                 padding_l, padding_r, forward);
    c.primitive = dnnl::convolution_backward_weights(pd);
    inner_w = pd.diff_weights_desc();
  }
  c.x = memory(nhwc_x, engine(), nullptr);
  c.y = memory(nhwc_y, engine(), nullptr);
  c.kernel = memory(inner_w, engine(), nullptr);
  c.user_kernel = memory(hwio, engine(), nullptr);
  c.reordered = inner_w != hwio;
  if (c.reordered)
    c.reorder = kind == WEIGHT_GRAD ? dnnl::reorder(c.kernel, c.user_kernel) : dnnl::reorder(c.user_kernel, c.kernel);
  return c;
}

// Networks have some twenty shapes, times three kinds; a process that meets very many starts over.
constexpr size_t MOST_CONVOLUTIONS = 512;

inline Convolution& convolution(Kind kind, const Shape& s, memory::data_type type, memory::data_type kernel_type) {
  static std::map<std::array<int64_t, 13>, Convolution> cache;
  const std::array<int64_t, 13> key{kind,         int64_t(type), int64_t(kernel_type), s.n,           s.height,
                                    s.width,      s.inputs,      s.side,               s.outputs,     s.out_height,
                                    s.out_width,  s.stride,      s.padding};
  auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  if (cache.size() >= MOST_CONVOLUTIONS) cache.clear();
  return cache.emplace(key, make_convolution(kind, s, type, kernel_type)).first->second;
}

// Writes y, x or kernel, whichever the kind asks for, from the two others.
inline void convolve(Kind kind, const Shape& s, memory::data_type type, memory::data_type kernel_type, void* x,
                     void* kernel, void* y) {
  auto& c = convolution(kind, s, type, kernel_type);
  c.x.set_data_handle(x);
  c.y.set_data_handle(y);
  c.user_kernel.set_data_handle(kernel);
  static Scratch reordered;  // as large as the largest kernel
  c.kernel.set_data_handle(c.reordered ? reordered.of<char>(c.kernel.get_desc().get_size()) : kernel);
  if (c.reordered && kind != WEIGHT_GRAD) c.reorder.execute(stream(), c.user_kernel, c.kernel);
  if (kind == FORWARD)
    c.primitive.execute(stream(), {{DNNL_ARG_SRC, c.x}, {DNNL_ARG_WEIGHTS, c.kernel}, {DNNL_ARG_DST, c.y}});
  else if (kind == INPUT_GRAD)
    c.primitive.execute(stream(), {{DNNL_ARG_DIFF_DST, c.y}, {DNNL_ARG_WEIGHTS, c.kernel}, {DNNL_ARG_DIFF_SRC, c.x}});
  else
    c.primitive.execute(stream(), {{DNNL_ARG_SRC, c.x}, {DNNL_ARG_DIFF_DST, c.y}, {DNNL_ARG_DIFF_WEIGHTS, c.kernel}});
  if (c.reordered && kind == WEIGHT_GRAD) c.reorder.execute(stream(), c.kernel, c.user_kernel);
  stream().wait();
}

}  // namespace cpu_kernels::direct
