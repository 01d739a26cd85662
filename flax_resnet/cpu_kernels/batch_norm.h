// Batch norm, what follows it (the residual sum, ReLU), and the gradient, in as few passes as there can be.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bfloat16.h"

namespace cpu_kernels {

// Rows are split into blocks that stay in the second-level cache, and blocks are dealt out to threads in order.
struct Blocks {
  int64_t rows, channels, size, count;
  Blocks(int64_t rows, int64_t channels)
      : rows(rows),
        channels(channels),
        size(std::max<int64_t>(4, (1 << 15) / channels)),
        count((rows + size - 1) / size) {}
  int64_t first(int thread, int threads) const { return count * thread / threads; }
  int64_t begin(int64_t block) const { return block * size; }
  int64_t end(int64_t block) const { return std::min(rows, (block + 1) * size); }
};

// Per thread: sums of its blocks.
struct Partial {
  std::vector<double> a, b;
  int64_t rows = 0;
  explicit Partial(int64_t channels) : a(channels), b(channels) {}
};

// Mean and sum of squared deviations per channel. Within a block in two passes, where the second also sees how far
// the first one's mean was off; blocks are joined by Chan, Golub and LeVeque's rule. Nothing cancels, however large
// the mean.
template <class T>
void block_statistics(const T* __restrict x, const Blocks& blocks, int64_t block, float* __restrict sum,
                      float* __restrict square, float* __restrict rest, Partial& partial) {
  const int64_t channels = blocks.channels, begin = blocks.begin(block), end = blocks.end(block), n = end - begin;
  std::fill(sum, sum + channels, 0.f);
  std::fill(square, square + channels, 0.f);
  std::fill(rest, rest + channels, 0.f);
  int64_t row = begin;
  for (; row + 4 <= end; row += 4) {
    const T* p = x + row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c)
      sum[c] += (load(p[c]) + load(p[c + channels])) + (load(p[c + 2 * channels]) + load(p[c + 3 * channels]));
  }
  for (; row < end; ++row) {
    const T* p = x + row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) sum[c] += load(p[c]);
  }
  for (int64_t c = 0; c < channels; ++c) sum[c] /= float(n);  // now the mean
  for (row = begin; row + 2 <= end; row += 2) {
    const T* p = x + row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float d = load(p[c]) - sum[c], e = load(p[c + channels]) - sum[c];
      square[c] += d * d + e * e;
      rest[c] += d + e;
    }
  }
  for (; row < end; ++row) {
    const T* p = x + row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float d = load(p[c]) - sum[c];
      square[c] += d * d;
      rest[c] += d;
    }
  }
  const double before = double(partial.rows), after = before + double(n);
  for (int64_t c = 0; c < channels; ++c) {
    const double off = double(rest[c]) / double(n), delta = double(sum[c]) + off - partial.a[c];
    partial.a[c] += delta * (double(n) / after);
    partial.b[c] += double(square[c]) - off * rest[c] + delta * delta * (before * double(n) / after);
  }
  partial.rows += n;
}

inline void combine_statistics(const std::vector<Partial>& partials, int64_t channels, float* mean, float* var) {
  for (int64_t c = 0; c < channels; ++c) {
    double n = 0, m = 0, s = 0;
    for (const auto& p : partials) {
      if (!p.rows) continue;
      const double delta = p.a[c] - m, after = n + double(p.rows);
      m += delta * (double(p.rows) / after);
      s += p.b[c] + delta * delta * (n * double(p.rows) / after);
      n = after;
    }
    mean[c] = float(m);
    var[c] = float(s / n);
  }
}

// y = (x − mean)·slope + bias, plus the residual, times the ReLU. The order of operations is the same wherever the
// sign of y is needed again.
template <bool RELU, bool ADD, class T>
void normalise(const T* __restrict x, const T* __restrict residual, T* __restrict y, int64_t channels,
               const float* __restrict mean, const float* __restrict slope, const float* __restrict bias,
               int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T *p = x + row * channels, *r = ADD ? residual + row * channels : nullptr;
    T* q = y + row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      float value = __builtin_fmaf(load(p[c]) - mean[c], slope[c], bias[c]);
      if (ADD) value += load(r[c]);
      if (RELU) value = value > 0.f || value != value ? value : 0.f;
      store(q[c], value);
    }
  }
}

template <class T>
void normalise(bool relu, const T* x, const T* residual, T* y, int64_t channels, const float* mean,
               const float* slope, const float* bias, int64_t begin, int64_t end) {
  auto chosen = relu ? (residual ? normalise<true, true, T> : normalise<true, false, T>)
                     : (residual ? normalise<false, true, T> : normalise<false, false, T>);
  chosen(x, residual, y, channels, mean, slope, bias, begin, end);
}

template <class T>
void norm_forward(const T* x, const T* residual, const float* scale, const float* bias, T* y, float* mean, float* var,
                  int64_t rows, int64_t channels, float eps, bool relu, bool training) {
  const Blocks blocks(rows, channels);
  const int threads = int(std::min<int64_t>(omp_get_max_threads(), blocks.count));
  std::vector<Partial> partials(threads, Partial(channels));
  std::vector<float> slope(channels);
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    const int team = omp_get_num_threads();  // may be fewer than asked for
    const int64_t first = blocks.first(thread, team), last = blocks.first(thread + 1, team);
    if (training) {
      std::vector<float> sum(channels), square(channels), rest(channels);
      for (int64_t block = first; block < last; ++block)
        block_statistics(x, blocks, block, sum.data(), square.data(), rest.data(), partials[thread]);
#pragma omp barrier
    }
#pragma omp single
    {
      if (training) combine_statistics(partials, channels, mean, var);
      for (int64_t c = 0; c < channels; ++c) slope[c] = scale[c] / std::sqrt(var[c] + eps);
    }
    // backwards: what was read last is still in the cache
    for (int64_t block = last - 1; block >= first; --block)
      normalise(relu, x, residual, y, channels, mean, slope.data(), bias, blocks.begin(block), blocks.end(block));
  }
}

// Sums of dy and of dy·(x − mean) over a block, where dy has passed back through the ReLU.
// MASK 0: there is none; 1: by y's sign, and dy is written for the residual; 2: by the sign that y had, from x.
enum Mask { NONE, FROM_Y, FROM_X };

template <Mask MASK, class T>
inline float masked(float dy, float x, const T* y, int64_t c, const float* mean, const float* slope,
                    const float* bias) {
  if (MASK == FROM_Y) return load(y[c]) > 0.f ? dy : 0.f;
  if (MASK == FROM_X) return __builtin_fmaf(x - mean[c], slope[c], bias[c]) > 0.f ? dy : 0.f;
  return dy;
}

template <Mask MASK, class T>
void block_gradient_sums(const T* __restrict dy, const T* __restrict x, const T* __restrict y,
                         T* __restrict dresidual, const Blocks& blocks, int64_t block, const float* __restrict mean,
                         const float* __restrict slope, const float* __restrict bias, float* __restrict sum,
                         float* __restrict product, Partial& partial) {
  const int64_t channels = blocks.channels;
  std::fill(sum, sum + channels, 0.f);
  std::fill(product, product + channels, 0.f);
  for (int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
    const int64_t at = row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float value = load(x[at + c]);
      const float g = masked<MASK>(load(dy[at + c]), value, y + at, c, mean, slope, bias);
      if (MASK == FROM_Y) store(dresidual[at + c], g);
      sum[c] += g;
      product[c] += g * (value - mean[c]);
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    partial.a[c] += sum[c];
    partial.b[c] += product[c];
  }
}

// dx = dy·slope + (x − mean)·tilt + shift
template <Mask MASK, class T>
void input_gradient(const T* __restrict dy, const T* __restrict x, T* __restrict dx, int64_t channels,
                    const float* __restrict mean, const float* __restrict slope, const float* __restrict bias,
                    const float* __restrict tilt, const float* __restrict shift, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float value = load(x[at + c]);
      const float g = masked<MASK == FROM_X ? FROM_X : NONE, T>(load(dy[at + c]), value, nullptr, c, mean, slope, bias);
      store(dx[at + c], __builtin_fmaf(g, slope[c], __builtin_fmaf(value - mean[c], tilt[c], shift[c])));
    }
  }
}

template <Mask MASK, class T>
void norm_backward(const T* dy, const T* x, const T* y, const float* scale, const float* bias, const float* mean,
                   const float* var, const float* dmean, const float* dvar, T* dx, T* dresidual, float* dscale,
                   float* dbias, int64_t rows, int64_t channels, float eps, bool training) {
  const Blocks blocks(rows, channels);
  const int threads = int(std::min<int64_t>(omp_get_max_threads(), blocks.count));
  std::vector<Partial> partials(threads, Partial(channels));
  std::vector<float> slope(channels), tilt(channels), shift(channels);
  for (int64_t c = 0; c < channels; ++c) slope[c] = scale[c] / std::sqrt(var[c] + eps);
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    const int team = omp_get_num_threads();  // may be fewer than asked for
    const int64_t first = blocks.first(thread, team), last = blocks.first(thread + 1, team);
    {
      std::vector<float> sum(channels), product(channels);
      for (int64_t block = first; block < last; ++block)
        block_gradient_sums<MASK>(dy, x, y, dresidual, blocks, block, mean, slope.data(), bias, sum.data(),
                                  product.data(), partials[thread]);
    }
#pragma omp barrier
#pragma omp single
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0, product = 0;
      for (const auto& p : partials) {
        sum += p.a[c];
        product += p.b[c];
      }
      const double inverse = 1 / std::sqrt(double(var[c]) + eps), n = double(rows);
      dbias[c] = float(sum);
      dscale[c] = float(product * inverse);
      tilt[c] = training ? float((2 * dvar[c] - scale[c] * inverse * inverse * inverse * product) / n) : 0.f;
      shift[c] = training ? float((dmean[c] - scale[c] * inverse * sum) / n) : 0.f;
    }
    const T* passed = MASK == FROM_Y ? dresidual : dy;
    for (int64_t block = last - 1; block >= first; --block)
      input_gradient<MASK>(passed, x, dx, channels, mean, slope.data(), bias, tilt.data(), shift.data(),
                           blocks.begin(block), blocks.end(block));
  }
}
}  // namespace cpu_kernels
