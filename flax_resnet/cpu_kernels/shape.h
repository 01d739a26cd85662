// What a convolution works on.

#pragma once

#include <cstdint>

namespace cpu_kernels {

// x (n, height, width, inputs) convolved with a square kernel (side, side, inputs, outputs) gives
// y (n, out_height, out_width, outputs); all row-major. A gradient has the shape of what it belongs to.
struct Shape {
  int64_t n, height, width, inputs, side, outputs, out_height, out_width, stride, padding;
};

enum Kind { FORWARD, INPUT_GRAD, WEIGHT_GRAD };

}  // namespace cpu_kernels
