// bfloat16: the upper half of a float.

#pragma once

#include <cstdint>
#include <cstring>

namespace cpu_kernels {

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

}  // namespace cpu_kernels
