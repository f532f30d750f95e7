// A product of two matrices, either of them transposed, with a row added to each row of the result.

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

constexpr int64_t kGroup = 512;  // columns that are packed together
constexpr int64_t kFew = 8;  // rows that packing does not pay for

VECTORISED void AddScaled(const float* x, float factor, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] += x[i] * factor;
}

VECTORISED float Dot(const float* x, const float* y, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

// c [rows, columns] += a b, reading b as it lies.
void MultiplyFew(const Matrix& a, int64_t rows, int64_t depth, const Matrix& b, int64_t columns, float* c, int64_t cStep) {
  thread_local Buffer buffer;
  float* row = buffer.Need(depth);
  for (int64_t i = 0; i < rows; i++, c += cStep) {
    for (int64_t k = 0; k < depth; k++) row[k] = *a.At(i, k);
    if (b.byColumn) {
      for (int64_t n = 0; n < columns; n++) c[n] += Dot(row, b.At(0, n), depth);
    } else {
      for (int64_t k = 0; k < depth; k++) AddScaled(b.At(k, 0), row[k], c, columns);
    }
  }
}

template <bool kBias>
void MatMul(Call& call, const Attributes& attributes) {
  const View a = call.Input(0), b = call.Input(1), bias = kBias ? call.Input(2) : View{nullptr, {0}};
  if (!call.ok()) return;
  const Matrix left{a.data, a.shape[1], attributes.transposeA}, right{b.data, b.shape[1], attributes.transposeB};
  const int64_t rows = a.shape[attributes.transposeA ? 1 : 0], depth = a.shape[attributes.transposeA ? 0 : 1];
  const int64_t columns = b.shape[attributes.transposeB ? 0 : 1];
  const View y = call.Output(0, {rows, columns});
  if (!call.ok() || y.size() == 0) return;

  if (rows < kFew) {
    ParallelFor(columns, 1 + (1 << 16) / (1 + rows * depth), [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < rows; row++) {
        float* c = y.data + row * columns;
        if (kBias) std::copy(bias.data + begin, bias.data + end, c + begin);
        else std::fill(c + begin, c + end, 0.0f);
      }
      MultiplyFew(left, rows, depth, {right.At(0, begin), right.step, right.byColumn}, end - begin, y.data + begin, columns);
    });
    return;
  }
  const int64_t width = ThisProcessor().columns;
  Buffer buffer;
  float* packed = buffer.Need(PackedSize(depth, std::min(columns, kGroup)));
  for (int64_t column = 0; column < columns; column += kGroup) {
    const int64_t count = std::min(kGroup, columns - column);
    ParallelFor((count + width - 1) / width, 1 + (1 << 15) / (1 + width * depth), [&](int64_t begin, int64_t end) {
      const int64_t from = begin * width, to = std::min(end * width, count);
      Pack({right.At(0, column + from), right.step, right.byColumn}, depth, to - from, packed + from * depth);
    });
    ParallelFor(rows, 1 + (1 << 19) / (1 + depth * count), [&](int64_t begin, int64_t end) {
      Multiply({left.At(begin, 0), left.step, left.byColumn}, end - begin, depth, packed, count,
               {kBias ? bias.data + column : nullptr, 0}, y.data + begin * columns + column, columns);
    });
  }
}

}  // namespace

void RegisterMatMul() {
  Register("FirstframeMatMul", {"a: float", "b: float"}, {"y: float"}, {"transposeA: bool", "transposeB: bool"}, MatMul<false>);
  Register("FirstframeMatMulBias", {"a: float", "b: float", "bias: float"}, {"y: float"},
           {"transposeA: bool", "transposeB: bool"}, MatMul<true>);
}

}  // namespace firstframe
