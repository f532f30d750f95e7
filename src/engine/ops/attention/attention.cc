// Attention in blocks with a running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv
// 2205.14135), and its gradient, which computes the weights anew from the logarithms of their sums. The scores of a block
// stay in the second cache.

#include <math.h>

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

constexpr int64_t kQueries = 112;
constexpr int64_t kKeys = 512;          // of a block, forward
constexpr int64_t kKeysBackward = 256;  // the gradient has two such blocks
constexpr int64_t kSkew = 16;           // keeps rows off each other's lines of the cache

// Scores become e^(score - largest), where a row's largest may have grown; `shrink` is what that makes of earlier sums.
VECTORISED void Weigh(float* scores, int64_t rows, int64_t keys, int64_t step, float* largest, float* total, float* shrink) {
  for (int64_t row = 0; row < rows; row++, scores += step) {
    float most = largest[row];
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < keys; i++) most = scores[i] > most ? scores[i] : most;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < keys; i++) {
      const float e = Exp(scores[i] - most);
      scores[i] = e;
      sum += e;
    }
    shrink[row] = Exp(largest[row] - most);
    total[row] = total[row] * shrink[row] + sum;
    largest[row] = most;
  }
}

VECTORISED void ScaleRows(float* x, int64_t rows, int64_t n, int64_t step, const float* factors) {
  for (int64_t row = 0; row < rows; row++, x += step) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= factors[row];
  }
}

VECTORISED void Scaled(const float* x, float* y, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
}

// Rows that may lie apart, scaled and close together.
VECTORISED void ScaledRows(const float* x, int64_t step, float* y, int64_t rows, int64_t n, float factor) {
  for (int64_t row = 0; row < rows; row++, x += step, y += n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
  }
}

VECTORISED void Add(const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

VECTORISED float Dot(const float* x, const float* y, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

// Scores become weights, and the weights' gradients become the scores'.
VECTORISED void ScoreGradients(float* scores, float* gradients, int64_t rows, int64_t keys, int64_t step, const float* logSums,
                               const float* dots) {
  for (int64_t row = 0; row < rows; row++, scores += step, gradients += step) {
#pragma omp simd
    for (int64_t i = 0; i < keys; i++) {
      const float weight = Exp(scores[i] - logSums[row]);
      gradients[i] = weight * (gradients[i] - dots[row]);
      scores[i] = weight;
    }
  }
}

// Where the packed heads of a tensor lie: [batch, tokens, heads * width].
struct Heads {
  int64_t batch, count, tokens, width, step;
  float* data;

  Heads(const View& x, int64_t heads)
      : batch(x.shape[0]), count(heads), tokens(x.shape[1]), width(x.shape[2] / heads), step(x.shape[2]), data(x.data) {}

  int64_t Offset(int64_t head, int64_t token) const {
    return (head / count * tokens + token) * step + head % count * width;
  }
  float* At(int64_t head, int64_t token) const { return data + Offset(head, token); }
};

void Attention(Call& call, const Attributes& attributes) {
  const View query = call.Input(0), key = call.Input(1), value = call.Input(2);
  if (!call.ok()) return;
  const Heads q(query, attributes.heads), k(key, attributes.heads), v(value, attributes.heads);
  const Factors factors = FactorsOf(attributes);
  const int64_t heads = q.batch * q.count, queries = q.tokens, keys = k.tokens, width = q.width, valueWidth = v.width;
  const View y = call.Output(0, {q.batch, queries, q.count * valueWidth});
  if (!call.ok()) return;
  const View logSums = call.Output(1, {q.batch, q.count, queries});
  if (!call.ok() || y.size() == 0) return;
  const Heads outputs(y, attributes.heads);

  const int64_t blocks = (queries + kQueries - 1) / kQueries;
  const int64_t parts = std::min<int64_t>(blocks, (2 * Threads() + heads - 1) / heads);
  ParallelFor(heads * parts, 1, [&](int64_t begin, int64_t end) {
    thread_local Buffer keyBuffer, valueBuffer, queryBuffer, scoreBuffer, rowBuffer;
    float* scores = scoreBuffer.Need(kQueries * (kKeys + kSkew));
    float* scaled = queryBuffer.Need(kQueries * width);
    float* largest = rowBuffer.Need(3 * kQueries);
    float *total = largest + kQueries, *shrink = total + kQueries;
    float* packedKeys = keyBuffer.Need(PackedSize(width, keys));
    const int64_t valueBlock = PackedSize(kKeys, valueWidth);
    float* packedValues = valueBuffer.Need((keys + kKeys - 1) / kKeys * valueBlock);
    int64_t packedHead = -1;
    for (int64_t item = begin; item < end; item++) {
      const int64_t head = item / parts, part = item % parts;
      if (head != packedHead) {
        Pack({k.At(head, 0), k.step, true}, width, keys, packedKeys, factors);
        for (int64_t at = 0; at < keys; at += kKeys) {
          Pack({v.At(head, at), v.step}, std::min(kKeys, keys - at), valueWidth, packedValues + at / kKeys * valueBlock, factors);
        }
        packedHead = head;
      }
      for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
        const int64_t first = queries * block / blocks, rows = queries * (block + 1) / blocks - first;
        float* out = outputs.At(head, first);
        ScaledRows(q.At(head, first), q.step, scaled, rows, width, attributes.scale);
        std::fill(largest, largest + rows, -INFINITY);
        std::fill(total, total + rows, 0.0f);
        for (int64_t at = 0; at < keys; at += kKeys) {
          const int64_t count = std::min(kKeys, keys - at), step = kKeys + kSkew;
          Multiply({scaled, width}, rows, width, packedKeys + at * width, count, {}, scores, step, factors);
          Weigh(scores, rows, count, step, largest, total, shrink);
          if (at > 0) ScaleRows(out, rows, valueWidth, outputs.step, shrink);
          Multiply({scores, step}, rows, count, packedValues + at / kKeys * valueBlock, valueWidth,
                   at > 0 ? Start{out, outputs.step} : Start{}, out, outputs.step, factors);
        }
        for (int64_t row = 0; row < rows; row++) {
          logSums.data[head * queries + first + row] = largest[row] + logf(total[row]);
          shrink[row] = 1.0f / total[row];
        }
        ScaleRows(out, rows, valueWidth, outputs.step, shrink);
      }
    }
  });
}

void AttentionGradient(Call& call, const Attributes& attributes) {
  const View query = call.Input(0), key = call.Input(1), value = call.Input(2), output = call.Input(3), dy = call.Input(4),
             logSums = call.Input(5);
  if (!call.ok()) return;
  const Heads q(query, attributes.heads), k(key, attributes.heads), v(value, attributes.heads), o(output, attributes.heads),
      d(dy, attributes.heads);
  const Factors factors = FactorsOf(attributes);
  const int64_t heads = q.batch * q.count, queries = q.tokens, keys = k.tokens, width = q.width, valueWidth = v.width;
  const View dQuery = call.Output(0, query.shape);
  if (!call.ok()) return;
  const View dKey = call.Output(1, key.shape);
  if (!call.ok()) return;
  const View dValue = call.Output(2, value.shape);
  if (!call.ok() || output.size() == 0) return;

  const int64_t rowBlocks = (queries + kQueries - 1) / kQueries, keyBlocks = (keys + kKeysBackward - 1) / kKeysBackward;
  // Where there are fewer heads than threads, the keys are parted as well; then each part has its own sum for the queries.
  const int64_t parts = std::min<int64_t>(keyBlocks, (Threads() + heads - 1) / heads);
  std::vector<Buffer> sums(static_cast<size_t>(parts - 1));
  std::vector<float*> sumOf{dQuery.data};
  for (Buffer& sum : sums) sumOf.push_back(sum.Need(query.size()));

  ParallelFor(heads * parts, 1, [&](int64_t begin, int64_t end) {
    thread_local Buffer scaledBuffer, queryBuffer, dyBuffer, dotBuffer, scoreBuffer, gradientBuffer, keyBuffer, valueBuffer,
        backBuffer;
    const int64_t step = kKeysBackward + kSkew;
    float* scaled = scaledBuffer.Need(queries * width);
    const int64_t queryBlock = PackedSize(kQueries, width), dyBlock = PackedSize(kQueries, valueWidth);
    float* packedQueries = queryBuffer.Need(rowBlocks * queryBlock);
    float* packedDy = dyBuffer.Need(rowBlocks * dyBlock);
    float* dots = dotBuffer.Need(queries);
    float* scores = scoreBuffer.Need(kQueries * step);
    float* gradients = gradientBuffer.Need(kQueries * step);
    float* keyColumns = keyBuffer.Need(PackedSize(width, kKeysBackward));
    float* valueColumns = valueBuffer.Need(PackedSize(valueWidth, kKeysBackward));
    float* keyRows = backBuffer.Need(PackedSize(kKeysBackward, width));
    for (int64_t item = begin; item < end; item++) {
      const int64_t head = item / parts, part = item % parts;
      float* dq = sumOf[part] + q.Offset(head, 0);
      ScaledRows(q.At(head, 0), q.step, scaled, queries, width, attributes.scale);
      for (int64_t row = 0; row < queries; row++) dots[row] = Dot(d.At(head, row), o.At(head, row), valueWidth);
      for (int64_t block = 0; block < rowBlocks; block++) {
        const int64_t row = queries * block / rowBlocks, rows = queries * (block + 1) / rowBlocks - row;
        Pack({scaled + row * width, width}, rows, width, packedQueries + block * queryBlock, factors);
        Pack({d.At(head, row), d.step}, rows, valueWidth, packedDy + block * dyBlock, factors);
      }
      const int64_t first = keyBlocks * part / parts, last = keyBlocks * (part + 1) / parts;
      for (int64_t keyBlock = first; keyBlock < last; keyBlock++) {
        const int64_t from = keys * keyBlock / keyBlocks, count = keys * (keyBlock + 1) / keyBlocks - from;
        Pack({k.At(head, from), k.step, true}, width, count, keyColumns, factors);
        Pack({k.At(head, from), k.step}, count, width, keyRows, factors);
        Pack({v.At(head, from), v.step, true}, valueWidth, count, valueColumns, factors);
        float* dk = dKey.data + k.Offset(head, from);
        float* dv = dValue.data + v.Offset(head, from);
        for (int64_t block = 0; block < rowBlocks; block++) {
          const int64_t row = queries * block / rowBlocks, rows = queries * (block + 1) / rowBlocks - row;
          Multiply({scaled + row * width, width}, rows, width, keyColumns, count, {}, scores, step, factors);
          Multiply({d.At(head, row), d.step}, rows, valueWidth, valueColumns, count, {}, gradients, step, factors);
          ScoreGradients(scores, gradients, rows, count, step, logSums.data + head * queries + row, dots + row);
          float* dqRows = dq + row * q.step;
          const auto soFar = [](bool first, const float* sum, int64_t step) { return first ? Start{} : Start{sum, step}; };
          Multiply({scores, step, true}, count, rows, packedDy + block * dyBlock, valueWidth, soFar(block == 0, dv, v.step), dv,
                   v.step, factors);
          Multiply({gradients, step, true}, count, rows, packedQueries + block * queryBlock, width,
                   soFar(block == 0, dk, k.step), dk, k.step, factors);
          Multiply({gradients, step}, rows, count, keyRows, width, soFar(keyBlock == first, dqRows, q.step), dqRows, q.step, factors);
        }
      }
    }
  });
  ParallelFor(query.size(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (size_t i = 1; i < sumOf.size(); i++) Add(sumOf[i] + begin, dQuery.data + begin, end - begin);
    Scaled(dQuery.data + begin, dQuery.data + begin, end - begin, attributes.scale);
  });
}

const Implementation kImplementations[] = {
    {"FirstframeAttention", Attention},
    {"FirstframeAttentionGrad", AttentionGradient},
};

}  // namespace
}  // namespace firstframe
