// Weights that are held as int8 with one float32 scale for each output, a quarter of float32's memory, and products with them.

#include <math.h>

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

// A row for each output, filled up to whole int32s: for TensorFlow.js four numbers are one of those.
struct Bytes {
  const int8_t* data;
  const float* scale;
  int64_t depth, columns;

  int64_t step() const { return (depth + 3) / 4 * 4; }
  const int8_t* Row(int64_t n) const { return data + n * step(); }
};

VECTORISED float Largest(const float* x, int64_t n) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; i++) largest = std::max(largest, fabsf(x[i]));
  return largest;
}

// To the nearest whole number, ties to even: adding 1.5 * 2^23 leaves no bits behind the point.
VECTORISED void Quantise(const float* x, int64_t n, float scale, int8_t* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float shifted = x[i] / scale + 12582912.0f;
    to[i] = static_cast<int8_t>(static_cast<int32_t>(shifted - 12582912.0f));
  }
}

VECTORISED void Widen(const int8_t* x, int64_t n, float factor, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = static_cast<float>(x[i]) * factor;
}

VECTORISED void ScaleRow(float* y, const float* scale, const float* bias, int64_t n) {
  if (bias) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = y[i] * scale[i] + bias[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] *= scale[i];
  }
}

// [out, in] -> int8 and scales.
void Hold(Call& call, const Attributes&) {
  const View weight = call.Input(0);
  if (!call.ok()) return;
  const int64_t columns = weight.shape[0], depth = weight.shape[1];
  const View held = call.Output(0, {columns, (depth + 3) / 4}, TF_INT32);
  if (!call.ok()) return;
  const View scale = call.Output(1, {columns});
  if (!call.ok()) return;
  int8_t* all = reinterpret_cast<int8_t*>(held.data);
  const int64_t step = Bytes{nullptr, nullptr, depth, columns}.step();
  ParallelFor(columns, 1 + (1 << 15) / (1 + depth), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const float largest = Largest(weight.data + n * depth, depth);
      scale.data[n] = largest > 0 ? largest / 127.0f : 1.0f;
      Quantise(weight.data + n * depth, depth, scale.data[n], all + n * step);
      std::fill(all + n * step + depth, all + (n + 1) * step, 0);
    }
  });
}

Bytes Read(const View& held, const View& scale, const Attributes& attributes) {
  return {reinterpret_cast<const int8_t*>(held.data), scale.data, attributes.depth, attributes.columns};
}

void Release(Call& call, const Attributes& attributes) {
  const View held = call.Input(0), scale = call.Input(1);
  if (!call.ok()) return;
  const Bytes b = Read(held, scale, attributes);
  const View weight = call.Output(0, {b.columns, b.depth});
  if (!call.ok()) return;
  ParallelFor(b.columns, 1 + (1 << 15) / (1 + b.depth), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) Widen(b.Row(n), b.depth, b.scale[n], weight.data + n * b.depth);
  });
}

// Packs columns from `first` on of the factor that is multiplied with: of the weight turned, [in, out], or as it lies, scaled.
void PackColumns(const Bytes& b, bool turned, int64_t first, int64_t count, float* packed, Factors factors) {
  thread_local Buffer wide;
  if (turned) {
    float* rows = wide.Need(b.columns * count);
    for (int64_t n = 0; n < b.columns; n++) Widen(b.Row(n) + first, count, b.scale[n], rows + n * count);
    return Pack({rows, count}, b.columns, count, packed, factors);
  }
  float* rows = wide.Need(b.depth * count);
  for (int64_t n = 0; n < count; n++) Widen(b.Row(first + n), b.depth, 1, rows + n * b.depth);
  Pack({rows, b.depth, true}, b.depth, count, packed, factors);
}

constexpr int64_t kGroup = 512;  // columns that are wide at a time
constexpr int64_t kShort = 448;  // rows for which each thread takes columns of its own

// x q^T, whose columns are scaled afterwards: whole numbers up to 127 are exact in bfloat16 too. Transposed: x (scale q).
template <bool kBias>
void MatMul(Call& call, const Attributes& attributes) {
  const View a = call.Input(0), held = call.Input(1), scale = call.Input(2), bias = kBias ? call.Input(3) : View{nullptr, {0}};
  if (!call.ok()) return;
  const Bytes b = Read(held, scale, attributes);
  const bool turned = attributes.transposeB;
  const int64_t rows = a.rows(), depth = turned ? b.columns : b.depth, columns = turned ? b.depth : b.columns;
  std::vector<int64_t> shape(a.shape.begin(), a.shape.end() - 1);
  shape.push_back(columns);
  const View y = call.Output(0, shape);
  if (!call.ok() || y.size() == 0) return;
  const Factors factors = FactorsOf(attributes);
  const int64_t width = PackedSize(1, 1);
  const auto multiply = [&](int64_t begin, int64_t end, const float* packed, int64_t from, int64_t count) {
    Multiply({a.data + begin * depth, depth}, end - begin, depth, packed, count, {}, y.data + begin * columns + from, columns, factors);
    for (int64_t row = begin; row < end && !turned; row++) {
      ScaleRow(y.data + row * columns + from, b.scale + from, kBias ? bias.data + from : nullptr, count);
    }
  };
  if (rows <= kShort) {
    ParallelFor((columns + width - 1) / width, 1 + (1 << 16) / (1 + depth * width), [&](int64_t begin, int64_t end) {
      thread_local Buffer panels;
      for (int64_t panel = begin; panel < end; panel++) {
        const int64_t from = panel * width, count = std::min(from + width, columns) - from;
        float* packed = panels.Need(PackedSize(depth, count));
        PackColumns(b, turned, from, count, packed, factors);
        multiply(0, rows, packed, from, count);
      }
    });
    return;
  }
  Buffer buffer;
  float* packed = buffer.Need(PackedSize(depth, std::min(columns, kGroup)));
  for (int64_t column = 0; column < columns; column += kGroup) {
    const int64_t count = std::min(kGroup, columns - column);
    ParallelFor((count + width - 1) / width, 1 + (1 << 15) / (1 + width * depth), [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; panel++) {
        const int64_t from = panel * width, to = std::min(from + width, count);
        PackColumns(b, turned, column + from, to - from, packed + from * depth, factors);
      }
    });
    ParallelFor(rows, std::max<int64_t>(64, (rows + 4 * Threads() - 1) / (4 * Threads())), [&](int64_t begin, int64_t end) {
      multiply(begin, end, packed, column, count);
    });
  }
}

const Implementation kImplementations[] = {
    {"FirstframeInt8Hold", Hold},
    {"FirstframeInt8Release", Release},
    {"FirstframeInt8MatMul", MatMul<false>},
    {"FirstframeInt8MatMulBias", MatMul<true>},
};

}  // namespace
}  // namespace firstframe
