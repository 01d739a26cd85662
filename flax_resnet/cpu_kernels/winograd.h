// 3×3 convolutions in float32 and bfloat16 with 2.25 times fewer multiplications: Winograd's minimal filtering
// F(2×2, 3×3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
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

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "bfloat16.h"
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
typedef uint32_t Bits __attribute__((vector_size(BYTES)));
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
constexpr int64_t LANES = BYTES / 4;
constexpr int64_t POINTS = 16;
constexpr int64_t PANEL = 2 * LANES;  // columns of a product that are computed together
constexpr int64_t TILES = 60;         // at once, by one thread: what a point's product needs stays in its caches
constexpr int64_t GRADIENT_TILES = 256;  // at once, by all threads together

inline Lanes load(const float* from) { return *reinterpret_cast<const Anywhere*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Anywhere*>(to) = value; }

inline Lanes load(const bfloat16* from) {  // as bfloat16.h's, for all lanes
  return (Lanes)(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Bits) << 16);
}
inline void store(bfloat16* to, Lanes value) {
#pragma omp simd
  for (int64_t l = 0; l < LANES; ++l) cpu_kernels::store(to[l], value[l]);
}

// ---- factors -------------------------------------------------------------------------------------------------

// What is multiplied. A word holds the factors that are next to each other in the direction of a sum.
struct Floats {
  typedef float Word;
  static constexpr int64_t PER_WORD = 1;
  static void pack(Word* to, const Lanes values[1]) { store(to, values[0]); }
  static void keep(Word* to, Lanes value) { store(to, value); }
  static Lanes add_product(Lanes sums, Word a, const Word* b) { return sums + a * load(b); }
};

#ifdef __AVX512BF16__
// Two factors, rounded to bfloat16; one instruction multiplies 16 pairs by 16 pairs and adds to 16 sums in float32.
struct Pairs {
  typedef uint32_t Word;
  static constexpr int64_t PER_WORD = 2;
  // word l from the two values in lane l
  static void pack(Word* to, const Lanes values[2]) {
    const __m512i first = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values[0])),
                  second = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values[1]));
    _mm512_storeu_si512(to, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
  }
  // half as many words, from values next to each other
  static void keep(Word* to, Lanes value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
  }
  static Lanes add_product(Lanes sums, Word a, const Word* b) {
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(int(a)), (__m512bh)_mm512_loadu_si512(b));
  }
};
template <class T>
using FactorsOf = std::conditional_t<std::is_same_v<T, float>, Floats, Pairs>;
#else
template <class T>
using FactorsOf = Floats;
#endif

// The points of PER_WORD tiles (or channels of a kernel) as words; those of point p go to to[p·step …]
template <class F>
inline void store_words(const Lanes points[F::PER_WORD][POINTS], typename F::Word* to, int64_t step) {
#pragma GCC unroll 16
  for (int64_t p = 0; p < POINTS; ++p) {
    Lanes values[F::PER_WORD];
    for (int64_t i = 0; i < F::PER_WORD; ++i) values[i] = points[i][p];
    F::pack(to + p * step, values);
  }
}

// ---- matrix product ------------------------------------------------------------------------------------------

// c (R rows, PANEL columns) = a·b, added to what c holds if ADD. Word k of a's row r is at a[r·row + k·step]; b is
// (depth, PANEL) words, without gaps.
template <class F, int R, bool ADD>
inline void block(int64_t depth, const typename F::Word* __restrict a, int64_t row, int64_t step,
                  const typename F::Word* __restrict b, float* __restrict c, int64_t c_row) {
  Lanes sums[R][2];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 2; ++j) sums[r][j] = Lanes{};
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const auto word = a[r * row + k * step];
      sums[r][0] = F::add_product(sums[r][0], word, b + k * PANEL);
      sums[r][1] = F::add_product(sums[r][1], word, b + k * PANEL + LANES);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < 2; ++j) {
      float* to = c + r * c_row + j * LANES;
      store(to, ADD ? load(to) + sums[r][j] : sums[r][j]);  // once at the end: a long sum is a sum of short ones
    }
}

template <class F, bool ADD>
void product(int64_t rows, int64_t depth, const typename F::Word* a, int64_t row, int64_t step,
             const typename F::Word* b, float* c, int64_t c_row) {
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) block<F, ROWS, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
  for (; r + 4 <= rows; r += 4) block<F, 4, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
  for (; r < rows; ++r) block<F, 1, ADD>(depth, a + r * row, row, step, b, c + r * c_row, c_row);
}

// ---- transforms of one tile ----------------------------------------------------------------------------------

// An image with its tiles of 2×2 pixels; where the side is odd, the last ones reach beyond it.
struct Map {
  int64_t n, height, width, channels;

  int64_t across() const { return (width + 1) / 2; }
  int64_t down() const { return (height + 1) / 2; }
  int64_t tiles() const { return n * down() * across(); }

  // Addresses of the side×side pixels from (2i − before, 2j − before) on, where (i, j) is the tile; `outside` instead
  // of what is not in the image, or if there is no such tile.
  template <int side, class T>
  void pixels(T* image, int64_t tile, int64_t before, T* outside, T* found[side][side]) const {
    const int64_t j = tile % across(), i = tile / across() % down(), image_number = tile / (across() * down());
    for (int a = 0; a < side; ++a)
      for (int b = 0; b < side; ++b) {
        const int64_t y = 2 * i - before + a, x = 2 * j - before + b;
        const bool inside = image_number < n && 0 <= y && y < height && 0 <= x && x < width;
        found[a][b] = inside ? image + ((image_number * height + y) * width + x) * channels : outside;
      }
  }
};

// Bᵀ d B of LANES channels from c on
template <class T>
inline void input_points(const T* const d[4][4], int64_t c, Lanes points[POINTS]) {
  Lanes t[4][4];
  for (int b = 0; b < 4; ++b) {
    const Lanes d0 = load(d[0][b] + c), d1 = load(d[1][b] + c), d2 = load(d[2][b] + c), d3 = load(d[3][b] + c);
    t[0][b] = d0 - d2, t[1][b] = d1 + d2, t[2][b] = d2 - d1, t[3][b] = d1 - d3;
  }
  for (int a = 0; a < 4; ++a) {
    Lanes* row = points + 4 * a;
    row[0] = t[a][0] - t[a][2], row[1] = t[a][1] + t[a][2], row[2] = t[a][2] - t[a][1], row[3] = t[a][1] - t[a][3];
  }
}

// A dy Aᵀ of LANES channels from c on
template <class T>
inline void gradient_points(const T* const d[2][2], int64_t c, Lanes points[POINTS]) {
  Lanes t[4][2];
  for (int b = 0; b < 2; ++b) {
    const Lanes d0 = load(d[0][b] + c), d1 = load(d[1][b] + c);
    t[0][b] = d0, t[1][b] = d0 + d1, t[2][b] = d0 - d1, t[3][b] = -d1;
  }
  for (int a = 0; a < 4; ++a) {
    Lanes* row = points + 4 * a;
    row[0] = t[a][0], row[1] = t[a][0] + t[a][1], row[2] = t[a][0] - t[a][1], row[3] = -t[a][1];
  }
}

// Aᵀ m A, into the image; point p of channel c is at from[p·step + c]
template <class T>
inline void output_tile(const Map& map, T* image, int64_t tile, T* nowhere, const float* from, int64_t step) {
  T* y[2][2];
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

// ---- transforms of the kernel ----------------------------------------------------------------------------------

// G g Gᵀ of LANES kernels
inline void kernel_points(const Lanes g[3][3], Lanes points[POINTS]) {
  Lanes t[4][3];
  for (int b = 0; b < 3; ++b) {
    const Lanes outer = (g[0][b] + g[2][b]) * .5f, inner = g[1][b] * .5f;
    t[0][b] = g[0][b], t[1][b] = outer + inner, t[2][b] = outer - inner, t[3][b] = g[2][b];
  }
  for (int a = 0; a < 4; ++a) {
    const Lanes outer = (t[a][0] + t[a][2]) * .5f, inner = t[a][1] * .5f;
    Lanes* row = points + 4 * a;
    row[0] = t[a][0], row[1] = outer + inner, row[2] = outer - inner, row[3] = t[a][2];
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

// All kernels (3, 3, inputs, outputs), in panels of words: (16, to / PANEL, from / PER_WORD, PANEL), where `from` are the
// inputs and `to` the outputs; for the input's gradient the other way round, and turned around.
template <class F>
void transform_kernels(const float* kernel, int64_t inputs, int64_t outputs, bool turned, typename F::Word* panels) {
  const int64_t from = turned ? outputs : inputs, to = turned ? inputs : outputs, depth = from / F::PER_WORD;
#pragma omp for collapse(2)
  for (int64_t panel = 0; panel < to; panel += PANEL)
    for (int64_t word = 0; word < depth; ++word)
      for (int64_t k = panel; k < panel + PANEL; k += LANES) {
        Lanes points[F::PER_WORD][POINTS];
        for (int64_t i = 0; i < F::PER_WORD; ++i) {
          const int64_t c = word * F::PER_WORD + i;
          Lanes g[3][3];
          for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b)
              if (turned)
                for (int64_t l = 0; l < LANES; ++l)
                  g[a][b][l] = kernel[((8 - 3 * a - b) * inputs + k + l) * outputs + c];
              else
                g[a][b] = load(kernel + ((3 * a + b) * inputs + c) * outputs + k);
          kernel_points(g, points[i]);
        }
        store_words<F>(points, panels + panel * depth + word * PANEL + (k - panel), depth * to);
      }
}

// ---- convolutions ------------------------------------------------------------------------------------------------

// y from x; with `turned`, dx from dy in their places.
template <class T>
void forward(const Map& x, const T* from, const float* kernel, const Map& y, T* to, bool turned) {
  using F = FactorsOf<T>;
  using Word = typename F::Word;
  // the same number of blocks for every thread, of at most TILES tiles
  const int64_t tiles = x.tiles(), threads = omp_get_max_threads(), most = threads * TILES;
  const int64_t blocks = (tiles + most - 1) / most * threads, size = (tiles + blocks - 1) / blocks;
  static Scratch panels_of_all, pixels_of_all, sums_of_all, zeros_of_all, nowhere_of_all;
  const int64_t depth = x.channels / F::PER_WORD;
  const int64_t pixels_size = POINTS * size * depth, sums_size = POINTS * size * y.channels;
  Word *panels = panels_of_all.of<Word>(POINTS * depth * y.channels),
       *all_pixels = pixels_of_all.of<Word>(threads * pixels_size);
  float* all_sums = sums_of_all.of<float>(threads * sums_size);
  T *zeros = zeros_of_all.of<T>(x.channels), *all_nowhere = nowhere_of_all.of<T>(threads * y.channels);
  std::fill(zeros, zeros + x.channels, T{});
#pragma omp parallel num_threads(threads)
  {
    const int64_t thread = omp_get_thread_num();
    Word* pixels = all_pixels + thread * pixels_size;
    float* sums = all_sums + thread * sums_size;
    transform_kernels<F>(kernel, turned ? y.channels : x.channels, turned ? x.channels : y.channels, turned, panels);
#pragma omp for schedule(static)
    for (int64_t first = 0; first < blocks * size; first += size) {
      const int64_t count = std::min(size, tiles - first);
      for (int64_t t = 0; t < count; ++t) {
        const T* d[4][4];
        x.pixels<4>(from, first + t, 1, static_cast<const T*>(zeros), d);
        for (int64_t c = 0; c < x.channels; c += LANES) {
          Lanes points[POINTS];
          input_points(d, c, points);
#pragma GCC unroll 16
          for (int64_t p = 0; p < POINTS; ++p)
            F::keep(pixels + (p * size + t) * depth + c / F::PER_WORD, points[p]);
        }
      }
      for (int64_t p = 0; p < POINTS; ++p)
        for (int64_t k = 0; k < y.channels; k += PANEL)
          product<F, false>(count, depth, pixels + p * size * depth, depth, 1, panels + (p * y.channels + k) * depth,
                            sums + p * size * y.channels + k, y.channels);
      for (int64_t t = 0; t < count; ++t)
        output_tile(y, to, first + t, all_nowhere + thread * y.channels, sums + t * y.channels, size * y.channels);
    }
  }
}

template <class T>
void weight_gradient(const Map& x, const T* image, const Map& y, const T* dy, float* dkernel) {
  using F = FactorsOf<T>;
  using Word = typename F::Word;
  static_assert(GRADIENT_TILES % F::PER_WORD == 0, "a word's tiles belong together");
  static Scratch pixels_of_all, gradients_of_all, sums_of_all, zeros_of_all;
  const int64_t tiles = x.tiles(), size = std::min(tiles, GRADIENT_TILES), step = x.channels * y.channels;
  const int64_t words = (size + F::PER_WORD - 1) / F::PER_WORD, most = std::max(x.channels, y.channels);
  // no power of two, so that the points of a tile don't meet in one set of the cache
  const int64_t pixels_step = words * x.channels + LANES, gradients_step = words * y.channels + LANES;
  Word *pixels = pixels_of_all.of<Word>(POINTS * pixels_step),
       *gradients = gradients_of_all.of<Word>(POINTS * gradients_step);
  float* sums = sums_of_all.of<float>(POINTS * step);
  T* zeros = zeros_of_all.of<T>(most);
  std::fill(zeros, zeros + most, T{});
#pragma omp parallel
  {
    for (int64_t first = 0; first < tiles; first += size) {
      const int64_t count = std::min(size, tiles - first), depth = (count + F::PER_WORD - 1) / F::PER_WORD;
#pragma omp for schedule(static)
      for (int64_t word = 0; word < depth; ++word) {
        const T *d[F::PER_WORD][4][4], *g[F::PER_WORD][2][2];
        for (int64_t i = 0; i < F::PER_WORD; ++i) {
          const int64_t tile = first + word * F::PER_WORD + i;
          x.pixels<4>(image, tile, 1, static_cast<const T*>(zeros), d[i]);
          y.pixels<2>(dy, tile, 0, static_cast<const T*>(zeros), g[i]);
        }
        Lanes points[F::PER_WORD][POINTS];
        for (int64_t c = 0; c < x.channels; c += LANES) {
          for (int64_t i = 0; i < F::PER_WORD; ++i) input_points(d[i], c, points[i]);
          store_words<F>(points, pixels + word * x.channels + c, pixels_step);
        }
        for (int64_t c = 0; c < y.channels; c += LANES) {
          for (int64_t i = 0; i < F::PER_WORD; ++i) gradient_points(g[i], c, points[i]);
          store_words<F>(points, gradients + c / PANEL * depth * PANEL + word * PANEL + c % PANEL, gradients_step);
        }
      }
      // every sum belongs to one thread, and is taken in the same order however many there are
#pragma omp for collapse(2) schedule(static)
      for (int64_t p = 0; p < POINTS; ++p)
        for (int64_t k = 0; k < y.channels; k += PANEL)
          (first ? product<F, true> : product<F, false>)(x.channels, depth, pixels + p * pixels_step, 1, x.channels,
                                                         gradients + p * gradients_step + k * depth,
                                                         sums + p * step + k, y.channels);
    }
#pragma omp for schedule(static)
    for (int64_t at = 0; at < step; at += LANES) kernel_gradient(sums + at, dkernel + at, step);
  }
}

// Like direct::convolve, for 3×3, stride 1, padding 1, channels in multiples of PANEL, and kernels in float32.
template <class T>
void convolve(Kind kind, const Shape& s, T* x, float* kernel, T* y) {
  const Map x_map{s.n, s.height, s.width, s.inputs}, y_map{s.n, s.height, s.width, s.outputs};
  if (kind == FORWARD)
    forward<T>(x_map, x, kernel, y_map, y, false);
  else if (kind == INPUT_GRAD)
    forward<T>(y_map, y, kernel, x_map, x, true);
  else
    weight_gradient<T>(x_map, x, y_map, y, kernel);
}

}  // namespace cpu_kernels::winograd
