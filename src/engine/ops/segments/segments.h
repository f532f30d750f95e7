// Which row of [batch or 1, segments, features] belongs to a row of [batch, sequence, features].

#pragma once

#include "op.h"

namespace firstframe {

struct Segments {
  int64_t sequence = 0;
  int64_t step;  // rows from one sample to the next; 0 where all samples share one
  std::vector<int64_t> ofToken;

  Segments(const std::vector<int64_t>& lengths, const View& values) {
    const int64_t count = static_cast<int64_t>(lengths.size());
    for (int64_t i = 0; i < count; i++) ofToken.insert(ofToken.end(), lengths[i], i);
    sequence = static_cast<int64_t>(ofToken.size());
    step = values.shape[0] == 1 ? 0 : count;
  }

  int64_t Row(int64_t row) const { return row / sequence * step + ofToken[row % sequence]; }
};

}  // namespace firstframe
