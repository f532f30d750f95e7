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

VECTORISED void ScaleRows(float* x, int64_t rows, int64_t n, const float* factors) {
  for (int64_t row = 0; row < rows; row++, x += n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= factors[row];
  }
}

VECTORISED void Scaled(const float* x, float* y, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor;
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

struct Sizes {
  int64_t heads, queries, keys, width, valueWidth;
};

Sizes SizesOf(const View& query, const View& key, const View& value) {
  return {query.shape[0] * query.shape[1], query.shape[2], key.shape[2], query.shape[3], value.shape[3]};
}

void Attention(Call& call, const Attributes& attributes) {
  const View query = call.Input(0), key = call.Input(1), value = call.Input(2);
  if (!call.ok()) return;
  const auto [heads, queries, keys, width, valueWidth] = SizesOf(query, key, value);
  const View y = call.Output(0, {query.shape[0], query.shape[1], queries, valueWidth});
  if (!call.ok()) return;
  const View logSums = call.Output(1, {query.shape[0], query.shape[1], queries});
  if (!call.ok() || y.size() == 0) return;

  const int64_t blocks = (queries + kQueries - 1) / kQueries;
  const int64_t parts = std::min<int64_t>(blocks, (2 * Threads() + heads - 1) / heads);
  ParallelFor(heads * parts, 1, [&, heads = heads, queries = queries, keys = keys, width = width, valueWidth = valueWidth](
                                    int64_t begin, int64_t end) {
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
        Pack({key.data + head * keys * width, width, true}, width, keys, packedKeys);
        for (int64_t k = 0; k < keys; k += kKeys) {
          Pack({value.data + (head * keys + k) * valueWidth, valueWidth}, std::min(kKeys, keys - k), valueWidth,
               packedValues + k / kKeys * valueBlock);
        }
        packedHead = head;
      }
      for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
        const int64_t q = queries * block / blocks, rows = queries * (block + 1) / blocks - q;
        float* out = y.data + (head * queries + q) * valueWidth;
        Scaled(query.data + (head * queries + q) * width, scaled, rows * width, attributes.scale);
        std::fill(largest, largest + rows, -INFINITY);
        std::fill(total, total + rows, 0.0f);
        for (int64_t k = 0; k < keys; k += kKeys) {
          const int64_t count = std::min(kKeys, keys - k), step = kKeys + kSkew;
          Multiply({scaled, width}, rows, width, packedKeys + k * width, count, {}, scores, step);
          Weigh(scores, rows, count, step, largest, total, shrink);
          if (k > 0) ScaleRows(out, rows, valueWidth, shrink);
          Multiply({scores, step}, rows, count, packedValues + k / kKeys * valueBlock, valueWidth,
                   k > 0 ? Start{out, valueWidth} : Start{}, out, valueWidth);
        }
        for (int64_t row = 0; row < rows; row++) {
          logSums.data[head * queries + q + row] = largest[row] + logf(total[row]);
          shrink[row] = 1.0f / total[row];
        }
        ScaleRows(out, rows, valueWidth, shrink);
      }
    }
  });
}

void AttentionGradient(Call& call, const Attributes& attributes) {
  const View query = call.Input(0), key = call.Input(1), value = call.Input(2), output = call.Input(3), dy = call.Input(4),
             logSums = call.Input(5);
  if (!call.ok()) return;
  const auto [heads, queries, keys, width, valueWidth] = SizesOf(query, key, value);
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

  ParallelFor(heads * parts, 1, [&, heads = heads, queries = queries, keys = keys, width = width, valueWidth = valueWidth](
                                    int64_t begin, int64_t end) {
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
      const float* dOut = dy.data + head * queries * valueWidth;
      const float* out = output.data + head * queries * valueWidth;
      float* dq = sumOf[part] + head * queries * width;
      Scaled(query.data + head * queries * width, scaled, queries * width, attributes.scale);
      for (int64_t row = 0; row < queries; row++) dots[row] = Dot(dOut + row * valueWidth, out + row * valueWidth, valueWidth);
      for (int64_t block = 0; block < rowBlocks; block++) {
        const int64_t q = queries * block / rowBlocks, rows = queries * (block + 1) / rowBlocks - q;
        Pack({scaled + q * width, width}, rows, width, packedQueries + block * queryBlock);
        Pack({dOut + q * valueWidth, valueWidth}, rows, valueWidth, packedDy + block * dyBlock);
      }
      const int64_t first = keyBlocks * part / parts, last = keyBlocks * (part + 1) / parts;
      for (int64_t keyBlock = first; keyBlock < last; keyBlock++) {
        const int64_t k = keys * keyBlock / keyBlocks, count = keys * (keyBlock + 1) / keyBlocks - k;
        const float* theseKeys = key.data + (head * keys + k) * width;
        Pack({theseKeys, width, true}, width, count, keyColumns);
        Pack({theseKeys, width}, count, width, keyRows);
        Pack({value.data + (head * keys + k) * valueWidth, valueWidth, true}, valueWidth, count, valueColumns);
        float* dk = dKey.data + (head * keys + k) * width;
        float* dv = dValue.data + (head * keys + k) * valueWidth;
        for (int64_t block = 0; block < rowBlocks; block++) {
          const int64_t q = queries * block / rowBlocks, rows = queries * (block + 1) / rowBlocks - q;
          Multiply({scaled + q * width, width}, rows, width, keyColumns, count, {}, scores, step);
          Multiply({dOut + q * valueWidth, valueWidth}, rows, valueWidth, valueColumns, count, {}, gradients, step);
          ScoreGradients(scores, gradients, rows, count, step, logSums.data + head * queries + q, dots + q);
          float* dqRows = dq + q * width;
          const auto soFar = [](bool first, const float* sum, int64_t step) { return first ? Start{} : Start{sum, step}; };
          Multiply({scores, step, true}, count, rows, packedDy + block * dyBlock, valueWidth, soFar(block == 0, dv, valueWidth),
                   dv, valueWidth);
          Multiply({gradients, step, true}, count, rows, packedQueries + block * queryBlock, width,
                   soFar(block == 0, dk, width), dk, width);
          Multiply({gradients, step}, rows, count, keyRows, width, soFar(keyBlock == first, dqRows, width), dqRows, width);
        }
      }
    }
  });
  ParallelFor(query.size(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (size_t i = 1; i < sumOf.size(); i++) Add(sumOf[i] + begin, dQuery.data + begin, end - begin);
    Scaled(dQuery.data + begin, dQuery.data + begin, end - begin, attributes.scale);
  });
}

}  // namespace

void RegisterAttention() {
  Register("FirstframeAttention", {"query: float", "key: float", "value: float"}, {"y: float", "log_sums: float"},
           {"scale: float"}, Attention);
  Register("FirstframeAttentionGrad",
           {"query: float", "key: float", "value: float", "output: float", "dy: float", "log_sums: float"},
           {"d_query: float", "d_key: float", "d_value: float"}, {"scale: float"}, AttentionGradient);
}

}  // namespace firstframe
