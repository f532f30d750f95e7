// Softmax over the last axis: the largest number, the exponentials with their sum, and the division, row by row in cache.

#include "op.h"

namespace firstframe {
namespace {

VECTORISED void Rows(const float* x, float* y, int64_t rows, int64_t n) {
  for (int64_t row = 0; row < rows; row++, x += n, y += n) {
    float largest = x[0];
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
      const float e = Exp(x[i] - largest);
      y[i] = e;
      sum += e;
    }
    const float factor = 1.0f / sum;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] *= factor;
  }
}

const Implementation kImplementations[] = {
    {"FirstframeSoftmax",
     [](Call& call, const Attributes&) {
       const View x = call.Input(0);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok() || x.size() == 0) return;
       const int64_t n = x.width();
       ParallelFor(x.rows(), 1 + (1 << 14) / n,
                   [&](int64_t begin, int64_t end) { Rows(x.data + begin * n, y.data + begin * n, end - begin, n); });
     }},
};

}  // namespace
}  // namespace firstframe
