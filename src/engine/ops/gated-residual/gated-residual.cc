// x + gate * branch, with one gate a sample and segment of the sequence: chunk `chunks[i]` of the modulation for segment i.

#include "sums.h"

namespace firstframe {
namespace {

VECTORISED void Forward(const float* x, const float* branch, const float* gate, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] + branch[i] * gate[i];
}

VECTORISED void Multiply(const float* x, const float* gate, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * gate[i];
}

VECTORISED void AddProduct(const float* x, const float* y, float* sums, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) sums[i] += x[i] * y[i];
}

// Calls row(r, gate) for each row of x [batch, sequence, n].
template <typename Row>
void Each(const View& x, const View& modulation, const Attributes& attributes, const Row& row) {
  const int64_t n = x.width();
  std::vector<int64_t> ofToken;
  for (size_t i = 0; i < attributes.lengths.size(); i++) ofToken.insert(ofToken.end(), attributes.lengths[i], attributes.chunks[i]);
  const int64_t sequence = static_cast<int64_t>(ofToken.size()), step = modulation.width();
  ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) row(r, modulation.data + r / sequence * step + ofToken[r % sequence] * n);
  });
}

void GateGradient(Call& call, const Attributes& attributes) {
  const View branch = call.Input(0), modulation = call.Input(1), dy = call.Input(2);
  if (!call.ok()) return;
  const View dModulation = call.Output(0, modulation.shape);
  if (!call.ok()) return;
  const int64_t n = branch.width(), samples = branch.shape[0], segments = static_cast<int64_t>(attributes.lengths.size());
  std::vector<float> sums(static_cast<size_t>(samples * segments * n));
  SumSegments(attributes.lengths, samples, false, n, sums.data(),
               [&](int64_t row, float* sum) { AddProduct(branch.data + row * n, dy.data + row * n, sum, n); });
  std::fill(dModulation.data, dModulation.data + dModulation.size(), 0.0f);
  for (int64_t i = 0; i < samples * segments; i++) {
    const float* from = sums.data() + i * n;
    std::copy(from, from + n, dModulation.data + i / segments * modulation.width() + attributes.chunks[i % segments] * n);
  }
}

const Implementation kImplementations[] = {
    {"FirstframeGatedResidual",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), branch = call.Input(1), modulation = call.Input(2);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t n = x.width();
       Each(x, modulation, attributes, [&](int64_t r, const float* gate) {
         Forward(x.data + r * n, branch.data + r * n, gate, y.data + r * n, n);
       });
     }},
    {"FirstframeGated",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), modulation = call.Input(1);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t n = x.width();
       Each(x, modulation, attributes,
            [&](int64_t r, const float* gate) { Multiply(x.data + r * n, gate, y.data + r * n, n); });
     }},
    {"FirstframeGateGrad", GateGradient},
};

}  // namespace
}  // namespace firstframe
