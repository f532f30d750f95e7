// Sums over the rows of segments, in an order that does not depend on which thread does what.

#pragma once

#include <algorithm>

#include "op.h"

namespace firstframe {

// out [segments of all samples, width] = for each segment, what add(row, sums) adds up over its rows. With `shared`, the
// samples' segments are added up as well.
template <typename Add>
void SumSegments(const std::vector<int64_t>& lengths, int64_t samples, bool shared, int64_t width, float* out, const Add& add) {
  constexpr int64_t kRows = 64;  // of one partial sum
  struct Piece {
    int64_t begin, end, of;
  };
  std::vector<Piece> pieces;
  const int64_t count = static_cast<int64_t>(lengths.size());
  int64_t row = 0;
  for (int64_t sample = 0; sample < samples; sample++) {
    for (int64_t i = 0; i < count; i++) {
      const int64_t end = row + lengths[i];
      for (; row < end; row = std::min(row + kRows, end)) {
        pieces.push_back({row, std::min(row + kRows, end), (shared ? 0 : sample * count) + i});
      }
    }
  }
  std::vector<float> partial(pieces.size() * static_cast<size_t>(width), 0.0f);
  ParallelFor(static_cast<int64_t>(pieces.size()), 1 + (1 << 14) / (1 + kRows * width), [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      for (int64_t at = pieces[piece].begin; at < pieces[piece].end; at++) add(at, partial.data() + piece * width);
    }
  });
  std::fill(out, out + (shared ? 1 : samples) * count * width, 0.0f);
  for (size_t piece = 0; piece < pieces.size(); piece++) {
    const float* from = partial.data() + piece * width;
    float* to = out + pieces[piece].of * width;
    for (int64_t i = 0; i < width; i++) to[i] += from[i];
  }
}

}  // namespace firstframe
