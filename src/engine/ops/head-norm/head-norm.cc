// Layer norm of each attention head, then rotary position embedding of interleaved pairs (the rotation's sign in the sines),
// with the heads side by side as the projection left them.

#include "layer-norm.h"
#include "sums.h"

namespace firstframe {
namespace {

struct Tables {
  const float *weight, *bias, *cos, *sin;
};

// One token: `heads` of n features each.
VECTORISED void Forward(const float* x, const Tables& t, float* y, int64_t heads, int64_t n, float eps) {
  for (int64_t head = 0; head < heads; head++, x += n, y += n) {
    const Moments m = MomentsOf(x, n, eps);
#pragma omp simd
    for (int64_t i = 0; i < n; i += 2) {
      const float a = (x[i] - m.mean) * m.rstd * t.weight[i] + t.bias[i];
      const float b = (x[i + 1] - m.mean) * m.rstd * t.weight[i + 1] + t.bias[i + 1];
      y[i] = a * t.cos[i] + b * t.sin[i];
      y[i + 1] = b * t.cos[i + 1] + a * t.sin[i + 1];
    }
  }
}

// dy, rotated back.
INLINE void UndoRotary(const float* dy, const float* cos, const float* sin, float* to, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i += 2) {
    const float a = dy[i], b = dy[i + 1];
    to[i] = a * cos[i] + b * sin[i + 1];
    to[i + 1] = b * cos[i + 1] + a * sin[i];
  }
}

VECTORISED void Backward(const float* x, const Tables& t, const float* dy, float* dx, int64_t heads, int64_t n, float eps) {
  for (int64_t head = 0; head < heads; head++, x += n, dy += n, dx += n) {
    const Moments m = MomentsOf(x, n, eps);
    UndoRotary(dy, t.cos, t.sin, dx, n);
    float mean = 0, along = 0;
#pragma omp simd reduction(+ : mean, along)
    for (int64_t i = 0; i < n; i++) {
      const float dn = dx[i] * t.weight[i];
      mean += dn;
      along += dn * (x[i] - m.mean) * m.rstd;
    }
    mean /= n;
    along /= n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = (dx[i] * t.weight[i] - mean - (x[i] - m.mean) * m.rstd * along) * m.rstd;
  }
}

// Adds the weight's gradient to the first n sums, the bias's to the next; the last n are room to work.
VECTORISED void AddToken(const float* x, const Tables& t, const float* dy, float* sums, int64_t heads, int64_t n, float eps) {
  float* unrotated = sums + 2 * n;
  for (int64_t head = 0; head < heads; head++, x += n, dy += n) {
    const Moments m = MomentsOf(x, n, eps);
    UndoRotary(dy, t.cos, t.sin, unrotated, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      sums[i] += unrotated[i] * (x[i] - m.mean) * m.rstd;
      sums[n + i] += unrotated[i];
    }
  }
}

// x [batch, tokens, heads * n], cos and sin [tokens, n]; calls token(t, tables) for each.
template <typename Token>
void Each(const View& x, const View& cos, Tables tables, const Token& token) {
  const int64_t width = x.width(), n = cos.width(), positions = cos.rows();
  const float *cosines = tables.cos, *sines = tables.sin;
  ParallelFor(x.rows(), 1 + (1 << 14) / width, [&](int64_t begin, int64_t end) {
    Tables here = tables;
    for (int64_t t = begin; t < end; t++) {
      here.cos = cosines + t % positions * n;
      here.sin = sines + t % positions * n;
      token(t, here);
    }
  });
}

const Implementation kImplementations[] = {
    {"FirstframeHeadNorm",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), weight = call.Input(1), bias = call.Input(2), cos = call.Input(3), sin = call.Input(4);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t width = x.width(), n = cos.width();
       Each(x, cos, {weight.data, bias.data, cos.data, sin.data}, [&](int64_t t, const Tables& tables) {
         Forward(x.data + t * width, tables, y.data + t * width, width / n, n, attributes.eps);
       });
     }},
    {"FirstframeHeadNormGrad",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), weight = call.Input(1), cos = call.Input(2), sin = call.Input(3), dy = call.Input(4);
       if (!call.ok()) return;
       const View dx = call.Output(0, x.shape);
       if (!call.ok()) return;
       const int64_t width = x.width(), n = cos.width();
       Each(x, cos, {weight.data, nullptr, cos.data, sin.data}, [&](int64_t t, const Tables& tables) {
         Backward(x.data + t * width, tables, dy.data + t * width, dx.data + t * width, width / n, n, attributes.eps);
       });
     }},
    {"FirstframeHeadNormParameters",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), cos = call.Input(1), sin = call.Input(2), dy = call.Input(3);
       if (!call.ok()) return;
       const int64_t width = x.width(), n = cos.width(), positions = cos.rows();
       const View dWeight = call.Output(0, {n});
       if (!call.ok()) return;
       const View dBias = call.Output(1, {n});
       if (!call.ok()) return;
       std::vector<float> sums(static_cast<size_t>(3 * n));
       SumSegments({x.rows()}, 1, true, 3 * n, sums.data(), [&](int64_t t, float* sum) {
         const int64_t at = t % positions * n;
         AddToken(x.data + t * width, {nullptr, nullptr, cos.data + at, sin.data + at}, dy.data + t * width, sum, width / n, n,
                  attributes.eps);
       });
       std::copy(sums.data(), sums.data() + n, dWeight.data);
       std::copy(sums.data() + n, sums.data() + 2 * n, dBias.data);
     }},
};

}  // namespace
}  // namespace firstframe
