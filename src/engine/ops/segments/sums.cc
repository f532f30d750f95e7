// Sums of segments of sequences, and of products of two sequences: gradients of what a segment has in common.

#include "sums.h"

namespace firstframe {
namespace {

VECTORISED void Add(const float* x, float* sums, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) sums[i] += x[i];
}

VECTORISED void AddProduct(const float* x, const float* y, float* sums, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) sums[i] += x[i] * y[i];
}

template <bool kProduct>
void Sums(Call& call, const Attributes& attributes) {
  const View x = call.Input(0), y = kProduct ? call.Input(1) : x;
  if (!call.ok()) return;
  const int64_t n = x.width(), samples = x.shape[0];
  const View sums = call.Output(0, {attributes.batch, static_cast<int64_t>(attributes.lengths.size()), n});
  if (!call.ok()) return;
  SumSegments(attributes.lengths, samples, attributes.batch == 1, n, sums.data, [&](int64_t row, float* sum) {
    if (kProduct) AddProduct(x.data + row * n, y.data + row * n, sum, n);
    else Add(x.data + row * n, sum, n);
  });
}

const Implementation kImplementations[] = {
    {"FirstframeSegmentSums", Sums<false>},
    {"FirstframeSegmentDots", Sums<true>},
};

}  // namespace
}  // namespace firstframe
