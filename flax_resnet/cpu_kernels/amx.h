// Convolutions in bfloat16 by the processor's matrix unit (AMX), for batches.
//
// The unit multiplies tiles, matrices of 16 rows of 64 bytes in registers of their own: 16 × 32 numbers of bfloat16 by
// 32 × 16, added to 16 × 16 sums in float32. oneDNN takes neighbouring pixels for the rows of a tile, and gets slow where
// an image is a few pixels wide. Here rows are images (in a kernel's gradient, pairs of them): a tile holds one position
// of 16 (32) images, and however small they are, it is as full as the batch can fill it. What lies outside of an image is
// not multiplied at all, and strides and sizes of kernels make no difference: a result is a sum over pairs of a
// position and a kernel's entry, whichever they are.

#pragma once

#include <stdexcept>

#include "bfloat16.h"
#include "shape.h"

namespace cpu_kernels::amx {
constexpr int64_t CHANNELS = 32;     // of a result that are computed together: numbers of channels are multiples of it
constexpr int64_t LARGEST_SIDE = 7;  // of a kernel
}  // namespace cpu_kernels::amx

#if !defined(__AMX_TILE__) || !defined(__AMX_BF16__) || !defined(__AVX512BF16__)

namespace cpu_kernels::amx {
inline bool available() { return false; }
inline void convolve(Kind, const Shape&, bfloat16*, float*, bfloat16*) {
  throw std::invalid_argument("compiled without AMX");
}
}  // namespace cpu_kernels::amx

#else

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "scratch.h"

namespace cpu_kernels::amx {

constexpr int64_t ROWS = 16, WIDTH = 32, TILE = ROWS * WIDTH;  // of a tile, in numbers of bfloat16: 1 KiB
constexpr int64_t AT_ONCE = 1 << 21;  // numbers of an activation that are put into tiles before they are multiplied,
                                      // unless 32 images have more: 4 MiB
constexpr int64_t NEAR = 1 << 18;     // numbers that a thread should find in its second-level cache: 512 KiB

// Linux lends the registers only to a process that has asked for them.
inline bool available() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  static const bool granted = !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
  return granted;
}

struct Configuration {  // as the processor reads it
  uint8_t palette = 1, reserved[15] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64, "all of it is read");
alignas(64) inline constexpr Configuration CONFIGURATION{};

// Gives a thread its tile registers: 0 to 3 are sums, 4 and 5 the left factors, 6 and 7 the right ones.
// The compiler does not know that a tile is loaded from memory: between the stores that make tiles and the products
// there is a barrier of OpenMP, which it knows to keep them apart.
class Registers {
 public:
  Registers() { _tile_loadconfig(&CONFIGURATION); }
  ~Registers() { _tile_release(); }

  static void clear() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  // Adds two products to sums 0 and 1: of a tile with two tiles next to each other.
  static void multiply(const bfloat16* left, const bfloat16* right) {
    _tile_loadd(6, right, 64);
    _tile_loadd(7, right + TILE, 64);
    _tile_loadd(4, left, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }

  // The same, and two more with another left factor, to sums 2 and 3.
  static void multiply(const bfloat16* left, const bfloat16* other, const bfloat16* right) {
    multiply(left, right);
    _tile_loadd(5, other, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }

  // (left factor, right factor, row, column)
  typedef float Sums[2][2][ROWS][ROWS];
  static void store(Sums to) {
    _tile_stored(0, to[0][0], 64);
    _tile_stored(1, to[0][1], 64);
    _tile_stored(2, to[1][0], 64);
    _tile_stored(3, to[1][1], 64);
  }
};

// ---- numbers into tiles ------------------------------------------------------------------------------------------

// A right factor has its numbers in pairs, which are next to each other in the direction of the sum: word c of row r
// holds numbers 2r and 2r + 1 of column c.
inline __m512i pairs(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}
inline __m256i rounded(const float* from) { return (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from)); }
inline __m256i sixteen(const bfloat16* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Words (r, c) of one tile go to (c, r) of the other.
inline void transpose(const bfloat16* tile, bfloat16* to) {
  const __m512i rows = _mm512_slli_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 4);
  for (int64_t c = 0; c < ROWS; ++c)
    _mm512_store_si512(to + c * WIDTH, _mm512_i32gather_epi32(rows, tile + 2 * c, 4));
}

// An activation: n images of (positions, channels).
struct Images {
  const bfloat16* from;
  int64_t n, positions, channels;
  // of an image that is not there: zeros
  const bfloat16* row(int64_t image, int64_t position, const bfloat16* zeros) const {
    return image < n ? from + (image * positions + position) * channels : zeros;
  }
};

// Tiles (position, channels / 32) of 16 images, whose rows are images: left factors.
inline void pack_images(const Images& x, int64_t group, int64_t position, const bfloat16* zeros, bfloat16* tiles) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const bfloat16* from = x.row(group * ROWS + r, position, zeros);
    bfloat16* to = tiles + position * x.channels * ROWS + r * WIDTH;
    for (int64_t c = 0; c < x.channels; c += WIDTH)
      _mm512_store_si512(to + c * ROWS, _mm512_loadu_si512(from + c));
  }
}

// Tiles (channels / 32, position, 2) of 32 images, in pairs of images; transposed, they are left factors.
// `step` is from 32 channels to the next.
template <bool TRANSPOSED>
void pack_pairs(const Images& x, int64_t block, int64_t position, int64_t step, const bfloat16* zeros,
                bfloat16* tiles) {
  alignas(64) bfloat16 tile[TILE];
  for (int64_t c = 0; c < x.channels; c += ROWS) {
    bfloat16* to = tiles + c / 32 * step + (2 * position + c / ROWS % 2) * TILE;
    for (int64_t r = 0; r < ROWS; ++r) {
      const int64_t image = block * WIDTH + 2 * r;
      _mm512_store_si512((TRANSPOSED ? tile : to) + r * WIDTH, pairs(sixteen(x.row(image, position, zeros) + c),
                                                                    sixteen(x.row(image + 1, position, zeros) + c)));
    }
    if (TRANSPOSED) transpose(tile, to);
  }
}

// All kernels (taps, inputs, outputs) as right factors (to / 32, taps, from / 32, 2), where `from` are the inputs and
// `to` the outputs; for the input's gradient the other way round.
inline void pack_kernels(const float* kernel, int64_t taps, int64_t inputs, int64_t outputs, bool turned,
                         bfloat16* tiles) {
  const int64_t from = turned ? outputs : inputs, to = turned ? inputs : outputs;
#pragma omp for collapse(2)
  for (int64_t column = 0; column < to; column += ROWS)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t row = 0; row < from; row += WIDTH) {
        bfloat16* tile =
            tiles + (((column / CHANNELS * taps + tap) * from + row) / WIDTH * 2 + column / ROWS % 2) * TILE;
        alignas(64) bfloat16 columns[TILE];
        for (int64_t i = 0; i < ROWS; ++i)
          if (turned) {
            const float* numbers = kernel + (tap * inputs + column + i) * outputs + row;
            _mm256_store_si256(reinterpret_cast<__m256i*>(columns + i * WIDTH), rounded(numbers));
            _mm256_store_si256(reinterpret_cast<__m256i*>(columns + i * WIDTH + ROWS), rounded(numbers + ROWS));
          } else {
            const float* numbers = kernel + (tap * inputs + row + 2 * i) * outputs + column;
            _mm512_store_si512(tile + i * WIDTH, pairs(rounded(numbers), rounded(numbers + outputs)));
          }
        if (turned) transpose(columns, tile);
      }
}

// ---- convolutions --------------------------------------------------------------------------------------------------

// One of the products that a result is the sum of: a position of the source, and the kernel's entry.
struct Term {
  int64_t position, tap;
};

// The terms of the result at (i, j), and how many there are.
inline int64_t terms_of(Kind kind, const Shape& s, int64_t i, int64_t j, Term* terms) {
  const int64_t height = kind == FORWARD ? s.height : s.out_height, width = kind == FORWARD ? s.width : s.out_width;
  // where the kernel's entry takes its number from along one axis; negative: from nowhere
  const auto source = [&](int64_t at, int64_t entry, int64_t side) {
    int64_t from = at * s.stride + entry - s.padding;
    if (kind == INPUT_GRAD) {
      from = at + s.padding - entry;
      if (from % s.stride) return int64_t(-1);
      from /= s.stride;
    }
    return from < side ? from : int64_t(-1);
  };
  int64_t count = 0;
  for (int64_t a = 0; a < s.side; ++a)
    for (int64_t b = 0; b < s.side; ++b) {
      const int64_t y = source(i, a, height), x = source(j, b, width);
      if (y >= 0 && x >= 0) terms[count++] = {y * width + x, a * s.side + b};
    }
  return count;
}

// y from x; for INPUT_GRAD x from y.
inline void forward(Kind kind, const Shape& s, const bfloat16* from, const float* kernel, bfloat16* to) {
  const bool turned = kind == INPUT_GRAD;
  const Images source{from, s.n, turned ? s.out_height * s.out_width : s.height * s.width,
                      turned ? s.outputs : s.inputs};
  const int64_t height = turned ? s.height : s.out_height, width = turned ? s.width : s.out_width,
                channels = turned ? s.inputs : s.outputs, taps = s.side * s.side;
  const int64_t group_size = source.positions * source.channels * ROWS, slab = taps * source.channels * CHANNELS;
  // groups of 16 images go in pairs, and channels of the result as far as their kernels stay near
  const int64_t groups = (s.n + ROWS - 1) / ROWS, slabs = channels / CHANNELS,
                near = std::clamp<int64_t>(NEAR / slab, 1, slabs),
                most = 2 * std::max<int64_t>(1, AT_ONCE / (2 * group_size));
  static Scratch tiles_of_all, kernels_of_all, zeros_of_all;
  bfloat16 *tiles = tiles_of_all.of<bfloat16>(std::min(groups, most) * group_size),
           *kernels = kernels_of_all.of<bfloat16>(slabs * slab), *zeros = zeros_of_all.of<bfloat16>(source.channels);
  std::fill(zeros, zeros + source.channels, bfloat16{});
#pragma omp parallel
  {
    Registers registers;
    pack_kernels(kernel, taps, s.inputs, s.outputs, turned, kernels);
    for (int64_t begin = 0; begin < groups; begin += most) {
      const int64_t end = std::min(groups, begin + most);
#pragma omp for collapse(2) schedule(static)
      for (int64_t group = begin; group < end; ++group)
        for (int64_t position = 0; position < source.positions; ++position)
          pack_images(source, group, position, zeros, tiles + (group - begin) * group_size);
#pragma omp for collapse(3) schedule(static)
      for (int64_t first = 0; first < slabs; first += near)
        for (int64_t group = begin; group < end; group += 2)
          for (int64_t i = 0; i < height; ++i) {
            const bool pair = group + 1 < end;
            const int64_t images = std::min((pair ? 2 : 1) * ROWS, s.n - group * ROWS);
            for (int64_t j = 0; j < width; ++j) {
              Term terms[LARGEST_SIDE * LARGEST_SIDE];
              const int64_t count = terms_of(kind, s, i, j, terms);
              for (int64_t k = first; k < std::min(first + near, slabs); ++k) {
                Registers::clear();
                for (int64_t t = 0; t < count; ++t) {
                  const bfloat16* left = tiles + (group - begin) * group_size +
                                         terms[t].position * source.channels * ROWS;
                  const bfloat16* right = kernels + k * slab + terms[t].tap * source.channels * CHANNELS;
                  for (int64_t c = 0; c < source.channels; c += WIDTH, left += TILE, right += 2 * TILE)
                    if (pair)
                      Registers::multiply(left, left + group_size, right);
                    else
                      Registers::multiply(left, right);
                }
                alignas(64) Registers::Sums sums;
                Registers::store(sums);
                for (int64_t image = 0; image < images; ++image) {
                  const auto& half = sums[image / ROWS];
                  const __m512bh numbers = _mm512_cvtne2ps_pbh(_mm512_load_ps(half[1][image % ROWS]),
                                                               _mm512_load_ps(half[0][image % ROWS]));
                  const int64_t at = ((group * ROWS + image) * height + i) * width + j;
                  _mm512_storeu_si512(to + at * channels + k * CHANNELS, (__m512i)numbers);
                }
              }
            }
          }
    }
  }
}

inline void weight_gradient(const Shape& s, const bfloat16* image, const bfloat16* gradient, float* dkernel) {
  const Images x{image, s.n, s.height * s.width, s.inputs}, dy{gradient, s.n, s.out_height * s.out_width, s.outputs};
  const int64_t blocks = (s.n + WIDTH - 1) / WIDTH, x_size = x.positions * x.channels * WIDTH,
                dy_size = dy.positions * dy.channels * WIDTH;
  // so many blocks of 32 images at once, and of them so many rows of the result that 32 channels stay near
  const int64_t most = std::clamp<int64_t>(AT_ONCE / std::max(x_size, dy_size), 1, blocks),
                strip = std::max<int64_t>(1, NEAR / (4 * TILE * s.out_width));
  static Scratch x_of_all, dy_of_all, zeros_of_all;
  bfloat16 *x_tiles = x_of_all.of<bfloat16>(most * x_size), *dy_tiles = dy_of_all.of<bfloat16>(most * dy_size),
           *zeros = zeros_of_all.of<bfloat16>(std::max(s.inputs, s.outputs));
  std::fill(zeros, zeros + std::max(s.inputs, s.outputs), bfloat16{});
#pragma omp parallel
  {
    Registers registers;
    for (int64_t begin = 0; begin < blocks; begin += most) {
      const int64_t count = std::min(most, blocks - begin);
      // (channels / 32, blocks, positions, 2) tiles
      const int64_t x_step = count * x.positions * 2 * TILE, dy_step = count * dy.positions * 2 * TILE;
#pragma omp for collapse(2) schedule(static)
      for (int64_t block = 0; block < count; ++block)
        for (int64_t p = 0; p < x.positions; ++p)
          pack_pairs<true>(x, begin + block, p, x_step, zeros, x_tiles + block * x.positions * 2 * TILE);
#pragma omp for collapse(2) schedule(static)
      for (int64_t block = 0; block < count; ++block)
        for (int64_t p = 0; p < dy.positions; ++p)
          pack_pairs<false>(dy, begin + block, p, dy_step, zeros, dy_tiles + block * dy.positions * 2 * TILE);
      for (int64_t first = 0; first < count * s.out_height; first += strip) {
        const int64_t last = std::min(first + strip, count * s.out_height);
        // the same channels for a thread in every strip: nobody else adds to them, and always in this order
#pragma omp for collapse(4) schedule(static) nowait
        for (int64_t c = 0; c < s.inputs; c += CHANNELS)
          for (int64_t k = 0; k < s.outputs; k += CHANNELS)
            for (int64_t a = 0; a < s.side; ++a)
              for (int64_t b = 0; b < s.side; ++b) {
                Registers::clear();
                for (int64_t row = first; row < last; ++row) {
                  const int64_t block = row / s.out_height, i = row % s.out_height,
                                y = i * s.stride + a - s.padding;
                  if (y < 0 || y >= s.height) continue;
                  const bfloat16 *left = x_tiles + c / CHANNELS * x_step +
                                         (block * x.positions + y * s.width) * 2 * TILE,
                                 *right = dy_tiles + k / CHANNELS * dy_step +
                                          (block * dy.positions + i * s.out_width) * 2 * TILE;
                  for (int64_t j = 0; j < s.out_width; ++j) {
                    const int64_t column = j * s.stride + b - s.padding;
                    if (column < 0 || column >= s.width) continue;
                    const bfloat16* at = left + column * 2 * TILE;
                    Registers::multiply(at, at + TILE, right + j * 2 * TILE);
                  }
                }
                alignas(64) Registers::Sums sums;
                Registers::store(sums);
                for (int64_t i = 0; i < CHANNELS; ++i)
                  for (int64_t half = 0; half < 2; ++half) {
                    float* to = dkernel + ((a * s.side + b) * s.inputs + c + i) * s.outputs + k + half * ROWS;
                    __m512 sum = _mm512_load_ps(sums[i / ROWS][half][i % ROWS]);
                    // a long sum is a sum of short ones
                    if (begin || first) sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
                    _mm512_storeu_ps(to, sum);
                  }
              }
      }
#pragma omp barrier
    }
  }
}

// Like direct::convolve, for channels in multiples of 32, kernels in float32, and activations in bfloat16.
inline void convolve(Kind kind, const Shape& s, bfloat16* x, float* kernel, bfloat16* y) {
  if (kind == WEIGHT_GRAD)
    weight_gradient(s, x, y, kernel);
  else
    forward(kind, s, kind == FORWARD ? x : y, kernel, kind == FORWARD ? y : x);
}

}  // namespace cpu_kernels::amx

#endif
