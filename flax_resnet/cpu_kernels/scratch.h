// Memory that is kept from call to call.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cpu_kernels {

// As large as the largest request has been, and aligned for any vector.
class Scratch {
 public:
  template <class T>
  T* of(size_t count) {
    const size_t bytes = count * sizeof(T) + ALIGNMENT;
    if (memory_.size() < bytes) memory_ = std::vector<char>(bytes);  // what it held is not needed
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    return reinterpret_cast<T*>((address + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  }

 private:
  static constexpr size_t ALIGNMENT = 64;
  std::vector<char> memory_;
};

}  // namespace cpu_kernels
