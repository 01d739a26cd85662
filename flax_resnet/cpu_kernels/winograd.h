// 3×3 convolutions in float32 with 2.25 times fewer multiplications: Winograd's minimal filtering F(2×2, 3×3)
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
//
// A tile of 2×2 results comes from 4×4 pixels d and a kernel g as Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A, where
//
//        1  0 −1  0         1   0   0
//   Bᵀ = 0  1  1  0     G = ½   ½   ½     Aᵀ = 1  1  1  0
//        0 −1  1  0         ½  −½   ½          0  1 −1 −1
//        0  1  0 −1         0   0   1
//
// and ∘ is, over all tiles and channels, one matrix product for each of the 16 points. All factors are 0, ±½ and ±1,
// so the transforms only add and halve. The input's gradient is the same with the kernel turned around and transposed;
// the kernel's gradient is Gᵀ[Σ (Bᵀ d B) ∘ (A dy Aᵀ)]G, summed over tiles.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "scratch.h"
#include "shape.h"

namespace cpu_kernels::winograd {

#ifdef __AVX512F__
constexpr int64_t BYTES = 64, ROWS = 12;  // of 32 registers, 24 hold a block of results
#else
constexpr int64_t BYTES = 32, ROWS = 6;  // of 16 registers, 12
#endif
typedef float Lanes __attribute__((vector_size(BYTES)));
typedef float Anywhere __attribute__((vector_size(BYTES), aligned(4), may_alias));
constexpr int64_t LANES = BYTES / 4;
constexpr int64_t POINTS = 16;
constexpr int64_t PANEL = 2 * LANES;  // columns of a product that are computed together
constexpr int64_t TILES = 60;         // at once, by one thread: what a point's product needs stays in its caches
constexpr int64_t GRADIENT_TILES = 256;  // at once, by all threads together

inline Lanes load(const float* from) { return *reinterpret_cast<const Anywhere*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Anywhere*>(to) = value; }

// ---- matrix product ------------------------------------------------------------------------------------------

// c (R rows, PANEL columns) = a·b, added to what c holds if ADD. a(r, k) is at a[r·row + k·step]; b is (depth, PANEL),
// without gaps.
template <int R, bool ADD>
inline void block(int64_t depth, const float* __restrict a, int64_t row, int64_t step, const float* __restrict b,
                  float* __restrict c, int64_t c_row) {
  Lanes sums[R][2];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 2; ++j) sums[r][j] = Lanes{};
  for (int64_t k = 0; k < depth; ++k) {
    const Lanes b0 = load(b + k * PANEL), b1 = load(b + k * PANEL + LANES);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const float value = a[r * row + k * step];
      sums[r][0] += value * b0;
      sums[r][1] += value * b1;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 2; ++j) {
      float* to = c + r * c_row + j * LANES;
      store(to, ADD ? load(to) + sums[r][j] : sums[r][j]);  // once at the end: a long sum is a sum of short ones
    }
}

template <bool ADD>
void product(int64_t rows, int64_t depth, const float* a, int64_t row, int64_t step, const float* b, float* c,
             int64_t c_row) {
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) block<ROWS, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
  for (; r + 4 <= rows; r += 4) block<4, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
  for (; r < rows; ++r) block<1, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
}

// ---- transforms of one tile ----------------------------------------------------------------------------------

// An image with its tiles of 2×2 pixels; where the side is odd, the last ones reach beyond it.
struct Map {
  int64_t n, height, width, channels;

  int64_t across() const { return (width + 1) / 2; }
  int64_t down() const { return (height + 1) / 2; }
  int64_t tiles() const { return n * down() * across(); }

  // Addresses of the side×side pixels from (2i − before, 2j − before) on, where (i, j) is the tile; `outside` instead
  // of what is not in the image.
  template <int side, class T>
  void pixels(T* image, int64_t tile, int64_t before, T* outside, T* found[side][side]) const {
    const int64_t j = tile % across(), i = tile / across() % down(), image_number = tile / (across() * down());
    for (int a = 0; a < side; ++a)
      for (int b = 0; b < side; ++b) {
        const int64_t y = 2 * i - before + a, x = 2 * j - before + b;
        const bool inside = 0 <= y && y < height && 0 <= x && x < width;
        found[a][b] = inside ? image + ((image_number * height + y) * width + x) * channels : outside;
      }
  }
};

// Bᵀ d B; point p of channel c goes to to[p·step + c]
inline void input_tile(const Map& map, const float* image, int64_t tile, const float* zeros, float* to, int64_t step) {
  const float* d[4][4];
  map.pixels<4>(image, tile, 1, zeros, d);
  for (int64_t c = 0; c < map.channels; c += LANES) {
    Lanes t[4][4];
    for (int b = 0; b < 4; ++b) {
      const Lanes d0 = load(d[0][b] + c), d1 = load(d[1][b] + c), d2 = load(d[2][b] + c), d3 = load(d[3][b] + c);
      t[0][b] = d0 - d2, t[1][b] = d1 + d2, t[2][b] = d2 - d1, t[3][b] = d1 - d3;
    }
    for (int a = 0; a < 4; ++a) {
      float* row = to + 4 * a * step + c;
      store(row, t[a][0] - t[a][2]);
      store(row + step, t[a][1] + t[a][2]);
      store(row + 2 * step, t[a][2] - t[a][1]);
      store(row + 3 * step, t[a][1] - t[a][3]);
    }
  }
}

// Aᵀ m A, into the image
inline void output_tile(const Map& map, float* image, int64_t tile, float* nowhere, const float* from, int64_t step) {
  float* y[2][2];
  map.pixels<2>(image, tile, 0, nowhere, y);
  for (int64_t c = 0; c < map.channels; c += LANES) {
    Lanes t[2][4];
    for (int b = 0; b < 4; ++b) {
      const float* m = from + b * step + c;
      const Lanes m0 = load(m), m1 = load(m + 4 * step), m2 = load(m + 8 * step), m3 = load(m + 12 * step);
      t[0][b] = m0 + m1 + m2, t[1][b] = m1 - m2 - m3;
    }
    for (int a = 0; a < 2; ++a) {
      store(y[a][0] + c, t[a][0] + t[a][1] + t[a][2]);
      store(y[a][1] + c, t[a][1] - t[a][2] - t[a][3]);
    }
  }
}

// A dy Aᵀ, in panels: channel c of point p goes to to[p·step + (c / PANEL)·panel + c % PANEL]
inline void gradient_tile(const Map& map, const float* image, int64_t tile, const float* zeros, float* to, int64_t step,
                          int64_t panel) {
  const float* d[2][2];
  map.pixels<2>(image, tile, 0, zeros, d);
  for (int64_t c = 0; c < map.channels; c += LANES) {
    Lanes t[4][2];
    for (int b = 0; b < 2; ++b) {
      const Lanes d0 = load(d[0][b] + c), d1 = load(d[1][b] + c);
      t[0][b] = d0, t[1][b] = d0 + d1, t[2][b] = d0 - d1, t[3][b] = -d1;
    }
    for (int a = 0; a < 4; ++a) {
      float* row = to + 4 * a * step + c / PANEL * panel + c % PANEL;
      store(row, t[a][0]);
      store(row + step, t[a][0] + t[a][1]);
      store(row + 2 * step, t[a][0] - t[a][1]);
      store(row + 3 * step, -t[a][1]);
    }
  }
}

// ---- transforms of the kernel ----------------------------------------------------------------------------------

// G g Gᵀ of LANES kernels; point p goes to to[p·step]
inline void transform_kernel(const Lanes g[3][3], float* to, int64_t step) {
  Lanes t[4][3];
  for (int b = 0; b < 3; ++b) {
    const Lanes outer = (g[0][b] + g[2][b]) * .5f, inner = g[1][b] * .5f;
    t[0][b] = g[0][b], t[1][b] = outer + inner, t[2][b] = outer - inner, t[3][b] = g[2][b];
  }
  for (int a = 0; a < 4; ++a) {
    const Lanes outer = (t[a][0] + t[a][2]) * .5f, inner = t[a][1] * .5f;
    float* row = to + 4 * a * step;
    store(row, t[a][0]);
    store(row + step, outer + inner);
    store(row + 2 * step, outer - inner);
    store(row + 3 * step, t[a][2]);
  }
}

// Gᵀ m G of LANES kernels, point p from from[p·step]; (a, b) goes to to[(3a + b)·step]
inline void kernel_gradient(const float* from, float* to, int64_t step) {
  Lanes t[3][4];
  for (int b = 0; b < 4; ++b) {
    const float* m = from + b * step;
    const Lanes m0 = load(m), m1 = load(m + 4 * step), m2 = load(m + 8 * step), m3 = load(m + 12 * step);
    t[0][b] = m0 + (m1 + m2) * .5f, t[1][b] = (m1 - m2) * .5f, t[2][b] = (m1 + m2) * .5f + m3;
  }
  for (int a = 0; a < 3; ++a) {
    float* row = to + 3 * a * step;
    store(row, t[a][0] + (t[a][1] + t[a][2]) * .5f);
    store(row + step, (t[a][1] - t[a][2]) * .5f);
    store(row + 2 * step, (t[a][1] + t[a][2]) * .5f + t[a][3]);
  }
}

// All kernels (3, 3, inputs, outputs), in panels: (16, to / PANEL, from, PANEL), where `from` are the inputs and `to`
// the outputs; for the input's gradient the other way round, and turned around.
inline void transform_kernels(const float* kernel, int64_t inputs, int64_t outputs, bool turned, float* panels) {
  const int64_t from = turned ? outputs : inputs, to = turned ? inputs : outputs;
#pragma omp for collapse(2)
  for (int64_t panel = 0; panel < to; panel += PANEL)
    for (int64_t c = 0; c < from; ++c)
      for (int64_t k = panel; k < panel + PANEL; k += LANES) {
        Lanes g[3][3];
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < 3; ++b)
            if (turned)
              for (int64_t l = 0; l < LANES; ++l)
                g[a][b][l] = kernel[((8 - 3 * a - b) * inputs + k + l) * outputs + c];
            else
              g[a][b] = load(kernel + ((3 * a + b) * inputs + c) * outputs + k);
        transform_kernel(g, panels + panel * from + c * PANEL + (k - panel), from * to);
      }
}

// ---- convolutions ------------------------------------------------------------------------------------------------

// y from x; with `turned`, dx from dy in their places.
inline void forward(const Map& x, const float* from, const float* kernel, const Map& y, float* to, bool turned) {
  // the same number of blocks for every thread, of at most TILES tiles
  const int64_t tiles = x.tiles(), threads = omp_get_max_threads(), most = threads * TILES;
  const int64_t blocks = (tiles + most - 1) / most * threads, size = (tiles + blocks - 1) / blocks;
  static Scratch panels_of_all, pixels_of_all, sums_of_all, edges_of_all;
  const int64_t pixels_size = POINTS * size * x.channels, sums_size = POINTS * size * y.channels;
  float *panels = panels_of_all.of<float>(POINTS * x.channels * y.channels),
        *all_pixels = pixels_of_all.of<float>(threads * pixels_size),
        *all_sums = sums_of_all.of<float>(threads * sums_size),
        *zeros = edges_of_all.of<float>(x.channels + threads * y.channels);
  std::fill(zeros, zeros + x.channels, 0.f);
#pragma omp parallel num_threads(threads)
  {
    const int64_t thread = omp_get_thread_num();
    float *pixels = all_pixels + thread * pixels_size, *sums = all_sums + thread * sums_size,
          *nowhere = zeros + x.channels + thread * y.channels;
    transform_kernels(kernel, turned ? y.channels : x.channels, turned ? x.channels : y.channels, turned, panels);
#pragma omp for schedule(static)
    for (int64_t first = 0; first < blocks * size; first += size) {
      const int64_t count = std::min(size, tiles - first);
      for (int64_t t = 0; t < count; ++t)
        input_tile(x, from, first + t, zeros, pixels + t * x.channels, size * x.channels);
      for (int64_t p = 0; p < POINTS; ++p)
        for (int64_t k = 0; k < y.channels; k += PANEL)
          product<false>(count, x.channels, pixels + p * size * x.channels, x.channels, 1,
                         panels + (p * y.channels + k) * x.channels, sums + p * size * y.channels + k, y.channels);
      for (int64_t t = 0; t < count; ++t)
        output_tile(y, to, first + t, nowhere, sums + t * y.channels, size * y.channels);
    }
  }
}

inline void weight_gradient(const Map& x, const float* image, const Map& y, const float* dy, float* dkernel) {
  static Scratch pixels_of_all, gradients_of_all, sums_of_all, zeros_of_all;
  const int64_t tiles = x.tiles(), size = std::min(tiles, GRADIENT_TILES), step = x.channels * y.channels;
  const int64_t most = std::max(x.channels, y.channels);
  float *pixels = pixels_of_all.of<float>(POINTS * size * x.channels), *sums = sums_of_all.of<float>(POINTS * step),
        *gradients = gradients_of_all.of<float>(POINTS * size * y.channels), *zeros = zeros_of_all.of<float>(most);
  std::fill(zeros, zeros + most, 0.f);
#pragma omp parallel
  {
    for (int64_t first = 0; first < tiles; first += size) {
      const int64_t count = std::min(size, tiles - first);
#pragma omp for schedule(static)
      for (int64_t t = 0; t < count; ++t) {
        input_tile(x, image, first + t, zeros, pixels + t * x.channels, size * x.channels);
        gradient_tile(y, dy, first + t, zeros, gradients + t * PANEL, count * y.channels, count * PANEL);
      }
      // every sum belongs to one thread, and is taken in the same order however many there are
#pragma omp for collapse(2) schedule(static)
      for (int64_t p = 0; p < POINTS; ++p)
        for (int64_t k = 0; k < y.channels; k += PANEL)
          (first ? product<true> : product<false>)(x.channels, count, pixels + p * size * x.channels, 1, x.channels,
                                                   gradients + (p * y.channels + k) * count, sums + p * step + k,
                                                   y.channels);
    }
#pragma omp for schedule(static)
    for (int64_t at = 0; at < step; at += LANES) kernel_gradient(sums + at, dkernel + at, step);
  }
}

// Like direct::convolve, for float32, 3×3, stride 1, padding 1, and channels in multiples of PANEL.
inline void convolve(Kind kind, const Shape& s, float* x, float* kernel, float* y) {
  const Map x_map{s.n, s.height, s.width, s.inputs}, y_map{s.n, s.height, s.width, s.outputs};
  if (kind == FORWARD)
    forward(x_map, x, kernel, y_map, y, false);
  else if (kind == INPUT_GRAD)
    forward(y_map, y, kernel, x_map, x, true);
  else
    weight_gradient(x_map, x, y_map, y, kernel);
}

}  // namespace cpu_kernels::winograd
