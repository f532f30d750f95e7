// Mean and deviation of a row.

#pragma once

#include <math.h>

#include "op.h"

namespace firstframe {

struct Moments {
  float mean, rstd;
};

INLINE Moments MomentsOf(const float* x, int64_t n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += x[i];
  const float mean = sum / n;
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, 1.0f / sqrtf(squares / n + eps)};
}

}  // namespace firstframe
