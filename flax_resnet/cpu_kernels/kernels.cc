// Convolutions and batch norms for XLA on a CPU. See README.md in this folder.
//
// Activations are NHWC and kernels HWIO, row-major, in float32 or bfloat16; statistics, batch norm's parameters
// and all sums are float32 or better. Everything runs on one thread of our own and its OpenMP team.

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// ---- one thread that does all the work -----------------------------------------------------------------------

// XLA calls from any of its threads, several at once when it has several devices. Each thread that opens an
// OpenMP region gets a team of its own, and teams that spin take the cores from each other; so all calls queue
// for one thread. Its caches and buffers then need no locks.
class Worker {
 public:
  static Worker& instance() {
    static Worker* worker = new Worker;  // lives as long as the process: XLA may call until the very end
    return *worker;
  }

  // Runs `work` on the worker's thread, and returns what it threw as an error.
  ffi::Error run(const std::function<void()>& work) {
    Job job{&work, {}, false};
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
    queued_.notify_one();
    finished_.wait(lock, [&] { return job.done; });
    return job.error.empty() ? ffi::Error::Success() : ffi::Error::Internal(job.error);
  }

 private:
  struct Job {
    const std::function<void()>* work;
    std::string error;
    bool done;
  };

  Worker() { std::thread(&Worker::loop, this).detach(); }

  void loop() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      queued_.wait(lock, [&] { return !jobs_.empty(); });
      Job* job = jobs_.front();
      jobs_.pop_front();
      lock.unlock();
      std::string error;
      try {
        (*job->work)();
      } catch (const std::exception& e) {
        error = std::string("cpu_kernels: ") + e.what();
      }
      lock.lock();
      job->error = error;
      job->done = true;
      finished_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable queued_, finished_;
  std::deque<Job*> jobs_;
};

// ---- memory ----------------------------------------------------------------------------------------------

// Unless malloc keeps its memory (recipe/memory.py), XLA takes its buffers from the system at every step and gives them
// back, so that each page of a result is mapped and cleared when it is first written. That is a tenth or so of a step in pages of 4 KiB, and less in pages of 2 MiB.
void ask_for_huge_pages(const ffi::AnyBuffer& result) {
  constexpr uintptr_t HUGE = 1 << 21;
  const auto address = reinterpret_cast<uintptr_t>(result.untyped_data());
  if (result.size_bytes() < HUGE) return;
  const uintptr_t begin = address / HUGE * HUGE, end = (address + result.size_bytes() + HUGE - 1) / HUGE * HUGE;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: it may be refused
}

// ---- convolution -----------------------------------------------------------------------------------------

using dnnl::memory;
using Dims = memory::dims;

dnnl::engine& engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& stream() {
  static dnnl::stream stream(engine());
  return stream;
}

memory::data_type type_of(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::F32: return memory::data_type::f32;
    case ffi::BF16: return memory::data_type::bf16;
    default: throw std::invalid_argument("float32 or bfloat16 expected");
  }
}

// (N, H, W, C) or (H, W, I, O) as oneDNN names them: (N, C, H, W) and (O, I, H, W)
Dims image_dims(const ffi::AnyBuffer& b) {
  auto d = b.dimensions();
  return {d[0], d[3], d[1], d[2]};
}
Dims kernel_dims(const ffi::AnyBuffer& b) {
  auto d = b.dimensions();
  return {d[3], d[2], d[0], d[1]};
}

struct Key {
  std::array<int64_t, 13> values;
  bool operator<(const Key& other) const { return values < other.values; }
};

enum Kind { FORWARD, INPUT_GRAD, WEIGHT_GRAD };

// A convolution of one shape, with the memory in the kernel layout that oneDNN likes best.
struct Convolution {
  dnnl::primitive primitive;
  memory src, weights, dst;     // what the primitive works on; handles are set at each call
  memory user_weights;          // HWIO
  dnnl::reorder reorder;        // between the two
  bool reordered;
};

// One buffer for reordered kernels, as large as the largest.
void* weights_buffer(size_t bytes) {
  static std::vector<char> buffer;
  if (buffer.size() < bytes + 64) buffer.resize(bytes + 64);
  auto address = reinterpret_cast<uintptr_t>(buffer.data());
  return reinterpret_cast<void*>((address + 63) / 64 * 64);
}

Convolution make_convolution(Kind kind, const Dims& x, const Dims& w, const Dims& y, memory::data_type type,
                             memory::data_type weights_type, int64_t stride, int64_t padding) {
  using tag = memory::format_tag;
  const auto nhwc_x = memory::desc(x, type, tag::nhwc), nhwc_y = memory::desc(y, type, tag::nhwc);
  const auto any_w = memory::desc(w, type, tag::any);
  // a weight gradient leaves in the kernel's own type: it is summed in float32 anyway
  const auto any_dw = memory::desc(w, weights_type, tag::any);
  const auto hwio = memory::desc(w, weights_type, tag::hwio);
  const Dims strides{stride, stride}, padding_l{padding, padding}, padding_r{
      (y[2] - 1) * stride + w[2] - x[2] - padding, (y[3] - 1) * stride + w[3] - x[3] - padding};
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
  c.src = memory(nhwc_x, engine(), nullptr);
  c.dst = memory(nhwc_y, engine(), nullptr);
  c.weights = memory(inner_w, engine(), nullptr);
  c.user_weights = memory(hwio, engine(), nullptr);
  c.reordered = inner_w != hwio;
  if (c.reordered)
    c.reorder = kind == WEIGHT_GRAD ? dnnl::reorder(c.weights, c.user_weights) : dnnl::reorder(c.user_weights, c.weights);
  return c;
}

// Networks have some twenty shapes, times three kinds; a process that meets very many starts over.
constexpr size_t MOST_CONVOLUTIONS = 512;

Convolution& convolution(Kind kind, const Dims& x, const Dims& w, const Dims& y, memory::data_type type,
                         memory::data_type weights_type, int64_t stride, int64_t padding) {
  static std::map<Key, Convolution> cache;
  Key key{{kind, x[0], x[1], x[2], x[3], w[0], w[2], y[2], y[3], int64_t(type), int64_t(weights_type), stride, padding}};
  auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  if (cache.size() >= MOST_CONVOLUTIONS) cache.clear();
  return cache.emplace(key, make_convolution(kind, x, w, y, type, weights_type, stride, padding)).first->second;
}

ffi::Error convolve(Kind kind, const ffi::AnyBuffer& x, const ffi::AnyBuffer& w, const ffi::AnyBuffer& y,
                    int64_t stride, int64_t padding) {
  return Worker::instance().run([&] {
    for (const auto* b : {&x, &w, &y})
      if (b->dimensions().size() != 4) throw std::invalid_argument("arrays with four dimensions expected");
    if (image_dims(x)[0] != image_dims(y)[0] || image_dims(x)[1] != kernel_dims(w)[1] ||
        image_dims(y)[1] != kernel_dims(w)[0] || type_of(x) != type_of(y))
      throw std::invalid_argument("a kernel that fits the activations expected");
    ask_for_huge_pages(kind == FORWARD ? y : kind == INPUT_GRAD ? x : w);
    auto& c = convolution(kind, image_dims(x), kernel_dims(w), image_dims(y), type_of(x), type_of(w), stride, padding);
    c.src.set_data_handle(x.untyped_data());
    c.dst.set_data_handle(y.untyped_data());
    c.user_weights.set_data_handle(w.untyped_data());
    c.weights.set_data_handle(c.reordered ? weights_buffer(c.weights.get_desc().get_size()) : w.untyped_data());
    if (c.reordered && kind != WEIGHT_GRAD) c.reorder.execute(stream(), c.user_weights, c.weights);
    if (kind == FORWARD)
      c.primitive.execute(stream(), {{DNNL_ARG_SRC, c.src}, {DNNL_ARG_WEIGHTS, c.weights}, {DNNL_ARG_DST, c.dst}});
    else if (kind == INPUT_GRAD)
      c.primitive.execute(stream(),
                          {{DNNL_ARG_DIFF_DST, c.dst}, {DNNL_ARG_WEIGHTS, c.weights}, {DNNL_ARG_DIFF_SRC, c.src}});
    else
      c.primitive.execute(stream(),
                          {{DNNL_ARG_SRC, c.src}, {DNNL_ARG_DIFF_DST, c.dst}, {DNNL_ARG_DIFF_WEIGHTS, c.weights}});
    if (c.reordered && kind == WEIGHT_GRAD) c.reorder.execute(stream(), c.weights, c.user_weights);
    stream().wait();
  });
}

ffi::Error conv_forward(ffi::AnyBuffer x, ffi::AnyBuffer w, ffi::Result<ffi::AnyBuffer> y, int64_t stride,
                        int64_t padding) {
  return convolve(FORWARD, x, w, *y, stride, padding);
}

ffi::Error conv_input_grad(ffi::AnyBuffer dy, ffi::AnyBuffer w, ffi::Result<ffi::AnyBuffer> dx, int64_t stride,
                           int64_t padding) {
  return convolve(INPUT_GRAD, *dx, w, dy, stride, padding);
}

ffi::Error conv_weight_grad(ffi::AnyBuffer x, ffi::AnyBuffer dy, ffi::Result<ffi::AnyBuffer> dw, int64_t stride,
                            int64_t padding) {
  return convolve(WEIGHT_GRAD, x, *dw, dy, stride, padding);
}

// ---- batch norm ------------------------------------------------------------------------------------------

struct bfloat16 {
  uint16_t bits;
};

inline float load(float value) { return value; }
inline float load(bfloat16 value) {
  uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

inline void store(float& to, float value) { to = value; }
inline void store(bfloat16& to, float value) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = uint16_t(value == value ? rounded : (bits >> 16) | 0x40);
}

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

void combine_statistics(const std::vector<Partial>& partials, int64_t channels, float* mean, float* var) {
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
    const int64_t first = blocks.first(thread, threads), last = blocks.first(thread + 1, threads);
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
    const int64_t first = blocks.first(thread, threads), last = blocks.first(thread + 1, threads);
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

float* floats(const ffi::AnyBuffer& buffer) { return static_cast<float*>(buffer.untyped_data()); }

// Throws unless all `vectors` are float32 and have a value per channel of x, and all `maps` are empty or like x: what
// is wrong would otherwise be read and written out of bounds.
void require(const ffi::AnyBuffer& x, std::initializer_list<const ffi::AnyBuffer*> vectors,
             std::initializer_list<const ffi::AnyBuffer*> maps) {
  if (x.dimensions().size() == 0 || x.element_count() == 0) throw std::invalid_argument("an empty activation");
  for (const auto* v : vectors)
    if (v->element_type() != ffi::F32 || int64_t(v->element_count()) != x.dimensions().back())
      throw std::invalid_argument("a float32 vector with one value per channel expected");
  for (const auto* m : maps)
    if (m->element_type() != x.element_type() || (m->element_count() && m->element_count() != x.element_count()))
      throw std::invalid_argument("activations of one shape and dtype expected");
}

// `residual` is empty, of shape (0,), where there is none
template <class T>
void forward_of(const ffi::AnyBuffer& x, const ffi::AnyBuffer& residual, const ffi::AnyBuffer& scale,
                const ffi::AnyBuffer& bias, const ffi::AnyBuffer& y, float* mean, float* var, float eps, bool relu,
                bool training) {
  const int64_t channels = x.dimensions().back();
  norm_forward(static_cast<const T*>(x.untyped_data()),
               residual.element_count() ? static_cast<const T*>(residual.untyped_data()) : nullptr, floats(scale),
               floats(bias), static_cast<T*>(y.untyped_data()), mean, var, int64_t(x.element_count()) / channels,
               channels, eps, relu, training);
}

ffi::Error norm_train(ffi::AnyBuffer x, ffi::AnyBuffer residual, ffi::AnyBuffer scale, ffi::AnyBuffer bias,
                      ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> var,
                      float eps, bool relu) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &*mean, &*var}, {&residual, &*y});
    ask_for_huge_pages(*y);
    (type_of(x) == memory::data_type::f32 ? forward_of<float> : forward_of<bfloat16>)(
        x, residual, scale, bias, *y, floats(*mean), floats(*var), eps, relu, true);
  });
}

ffi::Error norm_eval(ffi::AnyBuffer x, ffi::AnyBuffer residual, ffi::AnyBuffer scale, ffi::AnyBuffer bias,
                     ffi::AnyBuffer mean, ffi::AnyBuffer var, ffi::Result<ffi::AnyBuffer> y, float eps, bool relu) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &mean, &var}, {&residual, &*y});
    ask_for_huge_pages(*y);
    (type_of(x) == memory::data_type::f32 ? forward_of<float> : forward_of<bfloat16>)(
        x, residual, scale, bias, *y, floats(mean), floats(var), eps, relu, false);
  });
}

// `y` is empty where there is no ReLU, or its mask can be had from x; `dresidual` where there is no residual
template <class T>
void backward_of(const ffi::AnyBuffer& dy, const ffi::AnyBuffer& x, const ffi::AnyBuffer& y,
                 const ffi::AnyBuffer& scale, const ffi::AnyBuffer& bias, const ffi::AnyBuffer& mean,
                 const ffi::AnyBuffer& var, const ffi::AnyBuffer& dmean, const ffi::AnyBuffer& dvar,
                 const ffi::AnyBuffer& dx, const ffi::AnyBuffer& dresidual, const ffi::AnyBuffer& dscale,
                 const ffi::AnyBuffer& dbias, float eps, bool relu, bool training) {
  const int64_t channels = x.dimensions().back();
  const auto chosen = !relu ? norm_backward<NONE, T>
                            : y.element_count() ? norm_backward<FROM_Y, T> : norm_backward<FROM_X, T>;
  chosen(static_cast<const T*>(dy.untyped_data()), static_cast<const T*>(x.untyped_data()),
         static_cast<const T*>(y.untyped_data()), floats(scale), floats(bias), floats(mean), floats(var),
         floats(dmean), floats(dvar), static_cast<T*>(dx.untyped_data()), static_cast<T*>(dresidual.untyped_data()),
         floats(dscale), floats(dbias), int64_t(x.element_count()) / channels, channels, eps, training);
}

ffi::Error norm_grad(ffi::AnyBuffer dy, ffi::AnyBuffer x, ffi::AnyBuffer y, ffi::AnyBuffer scale, ffi::AnyBuffer bias,
                     ffi::AnyBuffer mean, ffi::AnyBuffer var, ffi::AnyBuffer dmean, ffi::AnyBuffer dvar,
                     ffi::Result<ffi::AnyBuffer> dx, ffi::Result<ffi::AnyBuffer> dresidual,
                     ffi::Result<ffi::AnyBuffer> dscale, ffi::Result<ffi::AnyBuffer> dbias, float eps, bool relu,
                     bool training) {
  return Worker::instance().run([&] {
    require(x, {&scale, &bias, &mean, &var, &dmean, &dvar, &*dscale, &*dbias}, {&dy, &y, &*dx, &*dresidual});
    ask_for_huge_pages(*dx);
    ask_for_huge_pages(*dresidual);
    (type_of(x) == memory::data_type::f32 ? backward_of<float> : backward_of<bfloat16>)(
        dy, x, y, scale, bias, mean, var, dmean, dvar, *dx, *dresidual, *dscale, *dbias, eps, relu, training);
  });
}

using Buffer = ffi::AnyBuffer;

auto conv_binding() {
  return ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Ret<Buffer>().Attr<int64_t>("stride").Attr<int64_t>("padding");
}

}  // namespace

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
