// Convolutions with a kernel that is held as bfloat16: causal in time, padded with zeros in space. The image becomes bfloat16
// with its padding in place, so that all that a tap takes lies at one offset; positions in the padding are computed, too, and
// left out when the sums are written.

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

constexpr int64_t kImageBytes = 1 << 26;  // of the frames that are converted together
constexpr int64_t kPositions = 512;       // whose sums stay in the second cache

// A single frame sees itself at every time: the sum of the kernels over time.
VECTORISED void SumOverTime(const Half* kernel, int64_t times, int64_t size, int64_t begin, int64_t end, Half* sum) {
  for (int64_t i = begin; i < end; i++) {
    float total = 0;
    for (int64_t t = 0; t < times; t++) total += ToFloat(kernel[t * size + i]);
    sum[i] = ToHalf(total);
  }
}

struct Geometry {
  int64_t height, width, channels, kernelHeight, kernelWidth;

  int64_t top() const { return kernelHeight / 2; }
  int64_t left() const { return kernelWidth / 2; }
  int64_t wide() const { return width + kernelWidth - 1; }
  int64_t step() const { return (channels + 31) / 32 * 32; }
  int64_t line() const { return wide() * step(); }
  int64_t lines() const { return height + kernelHeight - 1; }
  int64_t frame() const { return lines() * line(); }
};

// A line of a padded frame; above and below the picture there is nothing.
void ConvertLine(const Geometry& g, const float* frame, int64_t line, Half* to) {
  const int64_t y = line - g.top();
  if (y < 0 || y >= g.height) {
    std::fill(to, to + g.line(), 0);
    return;
  }
  const int64_t before = g.left() * g.step(), row = g.width * g.step();
  const float* from = frame + y * g.width * g.channels;
  std::fill(to, to + before, 0);
  if (g.channels == g.step()) {
    ToHalves(from, row, to + before);
  } else {
    for (int64_t x = 0; x < g.width; x++) ToHalves(from + x * g.channels, g.channels, to + before + x * g.step());
  }
  std::fill(to + before + row, to + g.line(), 0);
}

void HeldConv(Call& call, const Attributes& attributes) {
  const View history = call.Input(0), x = call.Input(1), held = call.Input(2), bias = call.Input(3);
  if (!call.ok()) return;
  const int64_t batch = attributes.batch, columns = attributes.columns;
  const View y = call.Output(0, {x.shape[0], x.shape[1], x.shape[2], columns});
  if (!call.ok() || y.size() == 0) return;
  const Geometry g{x.shape[1], x.shape[2], attributes.depth, attributes.lengths[1], attributes.lengths[2]};
  const int64_t frames = x.shape[0] / batch, size = g.height * g.width * g.channels;
  Halves kernel{reinterpret_cast<const Half*>(held.data), attributes.depth, columns};
  const int64_t inFrame = g.kernelHeight * g.kernelWidth;
  int64_t times = attributes.lengths[0];
  Buffer summed;
  if (times > 1 && frames == 1 && history.size() == 0) {
    const int64_t all = inFrame * kernel.size();
    Half* sum = reinterpret_cast<Half*>(summed.Need(all / 2));
    ParallelFor(all, 1 << 14, [&](int64_t begin, int64_t end) { SumOverTime(kernel.data, times, all, begin, end, sum); });
    kernel.data = sum;
    times = 1;
  }
  const int64_t past = times - 1;
  const int64_t together =
      std::clamp<int64_t>(kImageBytes / static_cast<int64_t>(sizeof(Half)) / g.frame() - past, 1, frames);
  // Tiles may take some positions after the last frame.
  const int64_t more = (32 + g.kernelHeight * g.wide()) * g.step();
  Buffer imageBuffer, biasBuffer;
  Half* image = reinterpret_cast<Half*>(imageBuffer.Need(((past + together) * g.frame() + more) / 2 + 1));
  std::fill(image + (past + together) * g.frame(), image + (past + together) * g.frame() + more, 0);
  const int64_t padded = kernel.panels() * kHalfColumns;
  float* starts = biasBuffer.Need(padded);
  std::fill(std::copy(bias.data, bias.data + columns, starts), starts + padded, 0.0f);
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t < times; t++) {
    for (int64_t i = 0; i < inFrame; i++) {
      offsets.push_back(t * g.frame() + (i / g.kernelWidth * g.wide() + i % g.kernelWidth) * g.step());
    }
  }
  const Convolution convolution{kernel, static_cast<int64_t>(offsets.size()), offsets.data(), g.step(), starts, padded};
  const int64_t positions = g.height * g.wide(), blocks = (positions + kPositions - 1) / kPositions;

  for (int64_t sample = 0; sample < batch; sample++) {
    // Before the first frame there is the history, or the first frame again.
    const auto frameAt = [&](int64_t frame) {
      if (frame >= 0) return x.data + (frame * batch + sample) * size;
      if (history.size() == 0) return x.data + sample * size;
      return history.data + (frame * batch + sample) * size + history.size();
    };
    for (int64_t first = 0; first < frames; first += together) {
      const int64_t count = std::min(together, frames - first);
      ParallelFor((past + count) * g.lines(), 1 + (1 << 14) / g.line(), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          ConvertLine(g, frameAt(first - past + i / g.lines()), i % g.lines(), image + i * g.line());
        }
      });
      ParallelFor(count * blocks, 1, [&](int64_t begin, int64_t end) {
        thread_local Buffer sumBuffer;
        float* sums = sumBuffer.Need((kPositions + 32) * padded);
        for (int64_t block = begin; block < end; block++) {
          const int64_t frame = block / blocks, from = positions * (block % blocks) / blocks;
          const int64_t to = positions * (block % blocks + 1) / blocks;
          Convolve(convolution, image + frame * g.frame() + from * g.step(), to - from, sums);
          float* out = y.data + ((first + frame) * batch + sample) * g.height * g.width * columns;
          for (int64_t p = from; p < to; p++) {
            const int64_t row = p / g.wide(), column = p % g.wide();
            if (column >= g.width) continue;
            memcpy(out + (row * g.width + column) * columns, sums + (p - from) * padded, sizeof(float) * columns);
          }
        }
      });
    }
  }
}

const Implementation kImplementations[] = {
    {"FirstframeHeldConv", HeldConv},
};

}  // namespace
}  // namespace firstframe
