// Group norm over [frames * batch, height, width, channels], statistics by call, sample and group, with a scale and a shift
// that may be smaller maps, and SiLU behind it: one pass for the statistics, one for the result.

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

}  // namespace

void RegisterGroupNorm() {
  Register("FirstframeGroupNorm", {"x: float", "scale: float", "shift: float"}, {"y: float", "mean: float", "rstd: float"},
           {"groups: int", "eps: float", "batch: int", "calls: list(int)", "silu: bool"}, GroupNorm);
}

}  // namespace firstframe
