// Group norm over [frames * batch, height, width, channels], statistics by call, sample and group, with a scale and a shift
// that may be smaller maps, and SiLU behind it: one pass for the statistics, one for the result. The gradient takes one pass
// for the sums that scale, shift and statistics need, and one for the result.

#include <math.h>

#include <algorithm>

#include "op.h"

namespace firstframe {
namespace {

// Pixels whose moments are taken together: they stay in the first cache, and float sums over them stay exact enough.
constexpr int64_t kBlock = 32;

// Adds the moments of some pixels to the running ones of each channel (Chan et al. 1979); `block` holds 2 * channels.
VECTORISED void AddMoments(const float* x, int64_t pixels, int64_t channels, float* block, double count, double* mean,
                           double* m2) {
  float* sum = block;
  float* squares = block + channels;
  std::fill(block, block + 2 * channels, 0.0f);
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) sum[c] += x[p * channels + c];
  }
  const float factor = 1.0f / pixels;
#pragma omp simd
  for (int64_t c = 0; c < channels; c++) sum[c] *= factor;
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
      const float centred = x[p * channels + c] - sum[c];
      squares[c] += centred * centred;
    }
  }
  const double total = count + pixels;
#pragma omp simd
  for (int64_t c = 0; c < channels; c++) {
    const double delta = sum[c] - mean[c];
    mean[c] += delta * pixels / total;
    m2[c] += squares[c] + delta * delta * count * pixels / total;
  }
}

// y = x a + b for a run of pixels that share a and b.
VECTORISED void Apply(const float* x, const float* a, const float* b, float* y, int64_t pixels, int64_t channels) {
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) y[p * channels + c] = x[p * channels + c] * a[c] + b[c];
  }
}

VECTORISED void ApplySilu(const float* x, const float* a, const float* b, float* y, int64_t pixels, int64_t channels) {
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
      const float z = x[p * channels + c] * a[c] + b[c];
      y[p * channels + c] = z * Sigmoid(z);
    }
  }
}

// Mean and 1 / standard deviation for every row and channel.
void Statistics(const View& x, const Attributes& attributes, float* mean, float* rstd) {
  const int64_t rows = x.shape[0], pixels = x.shape[1] * x.shape[2], channels = x.shape[3];
  const int64_t pieces = std::min<int64_t>(16, 1 + pixels / 1024);
  // of each piece of each row: per channel the mean and the sum of squares around it
  std::vector<double> parts(static_cast<size_t>(rows * pieces * 2 * channels), 0.0);
  ParallelFor(rows * pieces, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> block(static_cast<size_t>(2 * channels));
    for (int64_t part = begin; part < end; part++) {
      const int64_t row = part / pieces, piece = part % pieces;
      const int64_t from = pixels * piece / pieces, to = pixels * (piece + 1) / pieces;
      double* partMean = parts.data() + part * 2 * channels;
      for (int64_t p = from; p < to; p += kBlock) {
        AddMoments(x.data + (row * pixels + p) * channels, std::min(kBlock, to - p), channels, block.data(),
                   static_cast<double>(p - from), partMean, partMean + channels);
      }
    }
  });

  const int64_t batch = attributes.batch, groups = attributes.groups, width = channels / groups;
  int64_t frame = 0;
  for (int64_t frames : attributes.calls) {
    for (int64_t sample = 0; sample < batch; sample++) {
      for (int64_t group = 0; group < groups; group++) {
        double count = 0, total = 0, squares = 0;
        for (int64_t f = frame; f < frame + frames; f++) {
          for (int64_t piece = 0; piece < pieces; piece++) {
            const double n = static_cast<double>(pixels * (piece + 1) / pieces - pixels * piece / pieces);
            const double* part = parts.data() + ((f * batch + sample) * pieces + piece) * 2 * channels;
            for (int64_t c = group * width; c < (group + 1) * width && n > 0; c++) {
              const double delta = part[c] - total;
              squares += part[channels + c] + delta * delta * count * n / (count + n);
              total += delta * n / (count + n);
              count += n;
            }
          }
        }
        const float r = static_cast<float>(1.0 / sqrt(squares / count + attributes.eps));
        for (int64_t f = frame; f < frame + frames; f++) {
          const int64_t at = (f * batch + sample) * channels + group * width;
          std::fill(mean + at, mean + at + width, static_cast<float>(total));
          std::fill(rstd + at, rstd + at + width, r);
        }
      }
    }
    frame += frames;
  }
}

void GroupNorm(Call& call, const Attributes& attributes) {
  const View x = call.Input(0), scale = call.Input(1), shift = call.Input(2);
  if (!call.ok()) return;
  const int64_t rows = x.shape[0], height = x.shape[1], width = x.shape[2], channels = x.shape[3];
  const View y = call.Output(0, x.shape);
  if (!call.ok()) return;
  const View mean = call.Output(1, {rows, 1, 1, channels});
  if (!call.ok()) return;
  const View rstd = call.Output(2, {rows, 1, 1, channels});
  if (!call.ok() || x.size() == 0) return;
  Statistics(x, attributes, mean.data, rstd.data);

  const int64_t h = scale.shape[1], w = scale.shape[2];
  const bool shared = scale.shape[0] == 1;
  const int64_t run = width / w;  // pixels of a line that share a place of the map
  const auto apply = attributes.silu ? ApplySilu : Apply;
  ParallelFor(rows * height, 1 + (1 << 14) / (width * channels), [&](int64_t begin, int64_t end) {
    std::vector<float> coefficients(static_cast<size_t>(2 * channels));
    float* a = coefficients.data();
    float* b = a + channels;
    for (int64_t line = begin; line < end; line++) {
      const int64_t row = line / height, i = line % height;
      const float* m = mean.data + row * channels;
      const float* r = rstd.data + row * channels;
      for (int64_t j = 0; j < w; j++) {
        const int64_t place = (((shared ? 0 : row) * h + i / (height / h)) * w + j) * channels;
        for (int64_t c = 0; c < channels; c++) {
          a[c] = r[c] * scale.data[place + c];
          b[c] = shift.data[place + c] - m[c] * a[c];
        }
        const int64_t at = (line * width + j * run) * channels;
        apply(x.data + at, a, b, y.data + at, run, channels);
      }
    }
  });
}

// What a run of pixels with the same scale and shift needs: z = x a + b.
struct Coefficients {
  std::vector<float> a, b;
  explicit Coefficients(int64_t channels) : a(static_cast<size_t>(channels)), b(static_cast<size_t>(channels)) {}
  void Set(const float* mean, const float* rstd, const float* scale, const float* shift) {
    for (size_t c = 0; c < a.size(); c++) {
      a[c] = rstd[c] * scale[c];
      b[c] = shift[c] - mean[c] * a[c];
    }
  }
};

// SiLU's slope at z.
INLINE float SiluSlope(float z) {
  const float s = Sigmoid(z);
  return s * (1.0f + z * (1.0f - s));
}

// Adds up dz and dz (x - mean) of a run of pixels.
template <bool silu>
INLINE void AddSums(const float* x, const float* dy, const float* a, const float* b, const float* mean, float* dz,
                    float* dzx, int64_t pixels, int64_t channels) {
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
      const int64_t i = p * channels + c;
      const float d = silu ? dy[i] * SiluSlope(x[i] * a[c] + b[c]) : dy[i];
      dz[c] += d;
      dzx[c] += d * (x[i] - mean[c]);
    }
  }
}

VECTORISED void Sums(const float* x, const float* dy, const float* a, const float* b, const float* mean, float* dz,
                     float* dzx, int64_t pixels, int64_t channels) {
  AddSums<false>(x, dy, a, b, mean, dz, dzx, pixels, channels);
}

VECTORISED void SumsSilu(const float* x, const float* dy, const float* a, const float* b, const float* mean, float* dz,
                         float* dzx, int64_t pixels, int64_t channels) {
  AddSums<true>(x, dy, a, b, mean, dz, dzx, pixels, channels);
}

// dx = dz a + x c1 + c0
template <bool silu>
INLINE void Backward(const float* x, const float* dy, const float* a, const float* b, const float* c1, const float* c0,
                     float* dx, int64_t pixels, int64_t channels) {
  for (int64_t p = 0; p < pixels; p++) {
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
      const int64_t i = p * channels + c;
      const float d = silu ? dy[i] * SiluSlope(x[i] * a[c] + b[c]) : dy[i];
      dx[i] = d * a[c] + x[i] * c1[c] + c0[c];
    }
  }
}

VECTORISED void ApplyBackward(const float* x, const float* dy, const float* a, const float* b, const float* c1,
                              const float* c0, float* dx, int64_t pixels, int64_t channels) {
  Backward<false>(x, dy, a, b, c1, c0, dx, pixels, channels);
}

VECTORISED void ApplyBackwardSilu(const float* x, const float* dy, const float* a, const float* b, const float* c1,
                                  const float* c0, float* dx, int64_t pixels, int64_t channels) {
  Backward<true>(x, dy, a, b, c1, c0, dx, pixels, channels);
}

void GroupNormGrad(Call& call, const Attributes& attributes) {
  const View x = call.Input(0), scale = call.Input(1), shift = call.Input(2), mean = call.Input(3), rstd = call.Input(4),
             dy = call.Input(5);
  if (!call.ok()) return;
  const int64_t rows = x.shape[0], height = x.shape[1], width = x.shape[2], channels = x.shape[3];
  const View dx = call.Output(0, x.shape);
  if (!call.ok()) return;
  const View dScale = call.Output(1, scale.shape);
  if (!call.ok()) return;
  const View dShift = call.Output(2, scale.shape);
  if (!call.ok()) return;
  std::fill(dScale.data, dScale.data + dScale.size(), 0.0f);
  std::fill(dShift.data, dShift.data + dShift.size(), 0.0f);
  if (x.size() == 0) return;
  const int64_t h = scale.shape[1], w = scale.shape[2], lines = height / h, run = width / w;
  const bool shared = scale.shape[0] == 1;
  const auto placeOf = [&](int64_t row, int64_t i, int64_t j) {
    return (((shared ? 0 : row) * h + i) * w + j) * channels;
  };

  // For every row, place of the map and channel: the sums of dz and of dz * normal.
  const size_t sums = static_cast<size_t>(rows * h * w * channels);
  std::vector<double> sumDz(sums), sumDzNormal(sums);
  const auto add = attributes.silu ? SumsSilu : Sums;
  ParallelFor(rows * h, 1 + (1 << 14) / (lines * width * channels), [&](int64_t begin, int64_t end) {
    Coefficients at(channels);
    std::vector<float> dz(static_cast<size_t>(channels)), dzx(static_cast<size_t>(channels));
    for (int64_t part = begin; part < end; part++) {
      const int64_t row = part / h, i = part % h;
      const float* m = mean.data + row * channels;
      const float* r = rstd.data + row * channels;
      for (int64_t j = 0; j < w; j++) {
        const int64_t place = placeOf(row, i, j), own = (part * w + j) * channels;
        at.Set(m, r, scale.data + place, shift.data + place);
        for (int64_t line = 0; line < lines; line++) {
          const int64_t first = (((row * height + i * lines + line) * width) + j * run) * channels;
          std::fill(dz.begin(), dz.end(), 0.0f);
          std::fill(dzx.begin(), dzx.end(), 0.0f);
          add(x.data + first, dy.data + first, at.a.data(), at.b.data(), m, dz.data(), dzx.data(), run, channels);
          for (int64_t c = 0; c < channels; c++) {
            sumDz[own + c] += dz[c];
            sumDzNormal[own + c] += static_cast<double>(dzx[c]) * r[c];
          }
        }
      }
    }
  });
  std::vector<double> scaleSums(static_cast<size_t>(scale.size())), shiftSums(static_cast<size_t>(scale.size()));
  for (int64_t row = 0; row < rows; row++) {
    const int64_t from = placeOf(row, 0, 0), own = row * h * w * channels;
    for (int64_t k = 0; k < h * w * channels; k++) {
      scaleSums[from + k] += sumDzNormal[own + k];
      shiftSums[from + k] += sumDz[own + k];
    }
  }
  std::copy(scaleSums.begin(), scaleSums.end(), dScale.data);
  std::copy(shiftSums.begin(), shiftSums.end(), dShift.data);

  // With m1 and m2 the means over a group of scale * dz and scale * dz * normal: dx = rstd (scale dz - m1 - normal m2).
  std::vector<float> c1(static_cast<size_t>(rows * channels)), c0(static_cast<size_t>(rows * channels));
  const int64_t batch = attributes.batch, groups = attributes.groups, perGroup = channels / groups;
  int64_t frame = 0;
  for (int64_t frames : attributes.calls) {
    for (int64_t sample = 0; sample < batch; sample++) {
      for (int64_t group = 0; group < groups; group++) {
        double m1 = 0, m2 = 0;
        for (int64_t f = frame; f < frame + frames; f++) {
          const int64_t row = f * batch + sample;
          for (int64_t k = 0; k < h * w; k++) {
            for (int64_t c = group * perGroup; c < (group + 1) * perGroup; c++) {
              const double factor = scale.data[placeOf(row, 0, 0) + k * channels + c];
              m1 += factor * sumDz[(row * h * w + k) * channels + c];
              m2 += factor * sumDzNormal[(row * h * w + k) * channels + c];
            }
          }
        }
        const double count = static_cast<double>(frames * height * width * perGroup);
        for (int64_t f = frame; f < frame + frames; f++) {
          const int64_t row = f * batch + sample;
          for (int64_t c = group * perGroup; c < (group + 1) * perGroup; c++) {
            const int64_t at = row * channels + c;
            const double r = rstd.data[at];
            const double slope = -r * r * m2 / count;
            c1[at] = static_cast<float>(slope);
            c0[at] = static_cast<float>(-r * m1 / count - slope * mean.data[at]);
          }
        }
      }
    }
    frame += frames;
  }
  const auto apply = attributes.silu ? ApplyBackwardSilu : ApplyBackward;
  ParallelFor(rows * height, 1 + (1 << 14) / (width * channels), [&](int64_t begin, int64_t end) {
    Coefficients at(channels);
    for (int64_t line = begin; line < end; line++) {
      const int64_t row = line / height, i = line % height / lines;
      for (int64_t j = 0; j < w; j++) {
        const int64_t place = placeOf(row, i, j), first = (line * width + j * run) * channels;
        at.Set(mean.data + row * channels, rstd.data + row * channels, scale.data + place, shift.data + place);
        apply(x.data + first, dy.data + first, at.a.data(), at.b.data(), c1.data() + row * channels,
              c0.data() + row * channels, dx.data + first, run, channels);
      }
    }
  });
}

const Implementation kImplementations[] = {
    {"FirstframeGroupNorm", GroupNorm},
    {"FirstframeGroupNormGrad", GroupNormGrad},
};

}  // namespace
}  // namespace firstframe
