// Layer norm, then a scale and a shift from a condition, of which each segment of the sequence has its own: adaLN. Chunk
// `chunks[i]` of the modulation shifts segment i, and 1 + the next one scales it.

#include <math.h>

#include "layer-norm.h"
#include "sums.h"

namespace firstframe {
namespace {

// Which segment of which sample a row is in, and where that segment's modulation begins.
struct Modulation {
  const float* data;
  int64_t step, n;
  const std::vector<int64_t>& chunks;
  std::vector<int64_t> ofToken;

  Modulation(const View& modulation, const Attributes& attributes, int64_t n)
      : data(modulation.data), step(modulation.width()), n(n), chunks(attributes.chunks) {
    for (size_t i = 0; i < attributes.lengths.size(); i++) ofToken.insert(ofToken.end(), attributes.lengths[i], static_cast<int64_t>(i));
  }

  int64_t sequence() const { return static_cast<int64_t>(ofToken.size()); }
  int64_t Offset(int64_t row) const { return row / sequence() * step + chunks[ofToken[row % sequence()]] * n; }
  const float* Shift(int64_t row) const { return data + Offset(row); }
  const float* Scale(int64_t row) const { return data + Offset(row) + n; }
};

VECTORISED void Forward(const float* x, const float* scale, const float* shift, const float* weight, const float* bias, float* y,
                        int64_t n, float eps) {
  const Moments m = MomentsOf(x, n, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float normal = (x[i] - m.mean) * m.rstd * weight[i] + bias[i];
    y[i] = normal * (1.0f + scale[i]) + shift[i];
  }
}

VECTORISED void Backward(const float* x, const float* scale, const float* weight, const float* dy, float* dx, int64_t n, float eps) {
  const Moments m = MomentsOf(x, n, eps);
  float mean = 0, along = 0;
#pragma omp simd reduction(+ : mean, along)
  for (int64_t i = 0; i < n; i++) {
    const float dn = dy[i] * (1.0f + scale[i]) * weight[i];
    mean += dn;
    along += dn * (x[i] - m.mean) * m.rstd;
  }
  mean /= n;
  along /= n;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    dx[i] = (dy[i] * (1.0f + scale[i]) * weight[i] - mean - (x[i] - m.mean) * m.rstd * along) * m.rstd;
  }
}

// Adds dy to the first n sums, and dy times the normal x to the others.
VECTORISED void AddRow(const float* x, const float* dy, float* sums, int64_t n, float eps) {
  const Moments m = MomentsOf(x, n, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    sums[i] += dy[i];
    sums[n + i] += dy[i] * (x[i] - m.mean) * m.rstd;
  }
}

void Parameters(Call& call, const Attributes& attributes) {
  const View x = call.Input(0), modulation = call.Input(1), weight = call.Input(2), bias = call.Input(3), dy = call.Input(4);
  if (!call.ok()) return;
  const View dModulation = call.Output(0, modulation.shape);
  if (!call.ok()) return;
  const View dWeight = call.Output(1, weight.shape);
  if (!call.ok()) return;
  const View dBias = call.Output(2, bias.shape);
  if (!call.ok()) return;
  const int64_t n = x.width(), samples = x.shape[0], segments = static_cast<int64_t>(attributes.lengths.size());
  std::vector<float> sums(static_cast<size_t>(samples * segments * 2 * n));
  SumSegments(attributes.lengths, samples, false, 2 * n, sums.data(),
               [&](int64_t row, float* sum) { AddRow(x.data + row * n, dy.data + row * n, sum, n, attributes.eps); });
  std::fill(dModulation.data, dModulation.data + dModulation.size(), 0.0f);
  std::fill(dWeight.data, dWeight.data + n, 0.0f);
  std::fill(dBias.data, dBias.data + n, 0.0f);
  for (int64_t sample = 0; sample < samples; sample++) {
    for (int64_t i = 0; i < segments; i++) {
      const int64_t at = sample * modulation.width() + attributes.chunks[static_cast<size_t>(i)] * n;
      const float *sum = sums.data() + (sample * segments + i) * 2 * n, *scale = modulation.data + at + n;
      float *dShift = dModulation.data + at, *dScale = dShift + n;
      for (int64_t k = 0; k < n; k++) {
        dShift[k] += sum[k];
        dScale[k] += sum[n + k] * weight.data[k] + sum[k] * bias.data[k];
        dWeight.data[k] += sum[n + k] * (1.0f + scale[k]);
        dBias.data[k] += sum[k] * (1.0f + scale[k]);
      }
    }
  }
}

const Implementation kImplementations[] = {
    {"FirstframeModulatedNorm",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), given = call.Input(1), weight = call.Input(2), bias = call.Input(3);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t n = x.width();
       const Modulation modulation(given, attributes, n);
       ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
         for (int64_t row = begin; row < end; row++) {
           Forward(x.data + row * n, modulation.Scale(row), modulation.Shift(row), weight.data, bias.data, y.data + row * n,
                   n, attributes.eps);
         }
       });
     }},
    {"FirstframeModulatedNormGrad",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), given = call.Input(1), weight = call.Input(2), dy = call.Input(3);
       if (!call.ok()) return;
       const View dx = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t n = x.width();
       const Modulation modulation(given, attributes, n);
       ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
         for (int64_t row = begin; row < end; row++) {
           Backward(x.data + row * n, modulation.Scale(row), weight.data, dy.data + row * n, dx.data + row * n, n,
                    attributes.eps);
         }
       });
     }},
    {"FirstframeModulatedNormParameters", Parameters},
};

}  // namespace
}  // namespace firstframe
