// Memory that is kept from call to call.

#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace cpu_kernels {

// As large as the largest request has been, and aligned for any vector; what it holds is undefined.
class Scratch {
 public:
  template <class T>
  T* of(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (size_ < bytes || EXACT) {
      memory_.reset();  // first, so that there are never both
      memory_.reset(::operator new(bytes, ALIGNMENT));
      size_ = bytes;
    }
    return static_cast<T*>(memory_.get());
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr bool EXACT = true;  // a sanitizer sees what is read behind the end, not behind the request
#else
  static constexpr bool EXACT = false;
#endif
  static constexpr std::align_val_t ALIGNMENT{64};
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, ALIGNMENT); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

}  // namespace cpu_kernels
