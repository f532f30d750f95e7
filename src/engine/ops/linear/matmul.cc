// A product of two matrices, either of them transposed, with a row added to each row of the result. All axes but the last
// count as rows.

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

constexpr int64_t kGroup = 512;  // columns that are packed together: in bfloat16, four times as many are as fast gone through
constexpr int64_t kRows = 112;
constexpr int64_t kShort = 4 * kRows;  // rows that stay in the second cache
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

}  // namespace

void Product(const Matrix& left, int64_t rows, int64_t depth, const Matrix& right, int64_t columns, Start start, float* y,
             Factors factors) {
  if (rows < kFew) {
    // Long pieces of b's rows: it is read once, at the memory's speed.
    const int64_t grain = right.byColumn ? 1 + (1 << 16) / (1 + rows * depth) : std::max<int64_t>(64, columns / Threads());
    ParallelFor(columns, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < rows; row++) {
        float* c = y + row * columns;
        const float* from = start.data + row * start.step;
        if (start.data) std::copy(from + begin, from + end, c + begin);
        else std::fill(c + begin, c + end, 0.0f);
      }
      MultiplyFew(left, rows, depth, {right.At(0, begin), right.step, right.byColumn}, end - begin, y + begin, columns);
    });
    return;
  }
  const int64_t width = ThisProcessor().columns;
  if (rows <= kShort) {
    // Each thread packs what it multiplies with: nobody waits for the others' panels.
    ParallelFor((columns + width - 1) / width, 1 + (1 << 18) / (1 + rows * depth * width), [&](int64_t begin, int64_t end) {
      thread_local Buffer panels;
      const int64_t from = begin * width, count = std::min(end * width, columns) - from;
      float* packed = panels.Need(PackedSize(depth, count));
      Pack({right.At(0, from), right.step, right.byColumn}, depth, count, packed, factors);
      Multiply(left, rows, depth, packed, count, start.data ? Start{start.data + from, start.step} : Start{}, y + from, columns,
               factors);
    });
    return;
  }
  if (factors == Factors::kBfloat16 && left.byColumn && rows <= columns && MultipliesBfloat16()) {
    // A long sum, as of a weight's gradient: each thread takes columns of its own, and a piece of the depth at a time, whose
    // panels stay in the second cache.
    constexpr int64_t kPiece = 1024, kWide = 256;
    const int64_t all = (columns + width - 1) / width, each = std::max<int64_t>(1, std::min<int64_t>((all + Threads() - 1) / Threads(), kWide / width));
    ParallelFor((all + each - 1) / each, 1, [&](int64_t begin, int64_t end) {
      thread_local Buffer panels;
      for (int64_t part = begin; part < end; part++) {
        const int64_t from = part * each * width, count = std::min((part + 1) * each * width, columns) - from;
        float* packed = panels.Need(PackedSize(std::min(kPiece, depth), count));
        for (int64_t k = 0; k < depth; k += kPiece) {
          const int64_t length = std::min(kPiece, depth - k);
          Pack({right.At(k, from), right.step, right.byColumn}, length, count, packed, factors);
          const Start so = k > 0 ? Start{y + from, columns} : start.data ? Start{start.data + from, start.step} : Start{};
          Multiply({left.At(0, k), left.step, true}, rows, length, packed, count, so, y + from, columns, factors);
        }
      }
    });
    return;
  }
  const int64_t group = factors == Factors::kBfloat16 ? 4 * kGroup : kGroup;
  Buffer buffer;
  float* packed = buffer.Need(PackedSize(depth, std::min(columns, group)));
  for (int64_t column = 0; column < columns; column += group) {
    const int64_t count = std::min(group, columns - column);
    ParallelFor((count + width - 1) / width, 1 + (1 << 15) / (1 + width * depth), [&](int64_t begin, int64_t end) {
      const int64_t from = begin * width, to = std::min(end * width, count);
      Pack({right.At(0, column + from), right.step, right.byColumn}, depth, to - from, packed + from * depth, factors);
    });
    // As many rows together as Multiply takes at a time, since each part reads all panels; as much for every thread. Columns
    // of a long `a` are few and far between already.
    const int64_t rounds = (rows + kRows * Threads() - 1) / (kRows * Threads()), parts = rounds * Threads();
    const int64_t together = left.byColumn ? 1 : (rows + parts - 1) / parts;
    const int64_t grain = std::max(together, 1 + (1 << 19) / (1 + depth * count));
    ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      Multiply({left.At(begin, 0), left.step, left.byColumn}, end - begin, depth, packed, count,
               start.data ? Start{start.data + begin * start.step + column, start.step} : Start{}, y + begin * columns + column, columns,
               factors);
    });
  }
}

namespace {

template <bool kBias>
void MatMul(Call& call, const Attributes& attributes) {
  const View a = call.Input(0), b = call.Input(1), bias = kBias ? call.Input(2) : View{nullptr, {0}};
  if (!call.ok()) return;
  const Matrix left{a.data, a.width(), attributes.transposeA}, right{b.data, b.width(), attributes.transposeB};
  const int64_t rows = attributes.transposeA ? a.width() : a.rows(), depth = attributes.transposeA ? a.rows() : a.width();
  const int64_t columns = attributes.transposeB ? b.rows() : b.width();
  std::vector<int64_t> shape{rows};
  if (!attributes.transposeA) shape.assign(a.shape.begin(), a.shape.end() - 1);
  shape.push_back(columns);
  const View y = call.Output(0, shape);
  if (!call.ok() || y.size() == 0) return;
  Product(left, rows, depth, right, columns, {kBias ? bias.data : nullptr, 0}, y.data, FactorsOf(attributes));
}

VECTORISED void Scale(float* x, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

// y + scale * (x a^T) b^T, and scale * x a^T for the gradient.
void LowRank(Call& call, const Attributes& attributes) {
  const View y = call.Input(0), x = call.Input(1), a = call.Input(2), b = call.Input(3);
  if (!call.ok()) return;
  const View sum = call.Output(0, y.shape);
  if (!call.ok()) return;
  const int64_t rows = x.rows(), width = x.width(), rank = a.rows(), columns = y.width();
  const View low = call.Output(1, {rows, rank});
  if (!call.ok() || sum.size() == 0) return;
  const Factors factors = FactorsOf(attributes);
  Product({x.data, width}, rows, width, {a.data, width, true}, rank, {}, low.data, factors);
  Scale(low.data, low.size(), attributes.scale);
  Product({low.data, rank}, rows, rank, {b.data, rank, true}, columns, {y.data, columns}, sum.data, factors);
}

void LowRankGradient(Call& call, const Attributes& attributes) {
  const View dy = call.Input(0), x = call.Input(1), low = call.Input(2), a = call.Input(3), b = call.Input(4), onto = call.Input(5);
  if (!call.ok()) return;
  const View dx = call.Output(0, x.shape);
  if (!call.ok()) return;
  const View da = call.Output(1, a.shape);
  if (!call.ok()) return;
  const View db = call.Output(2, b.shape);
  if (!call.ok() || x.size() == 0) return;
  const int64_t rows = x.rows(), width = x.width(), rank = a.rows(), columns = dy.width();
  Buffer buffer;
  float* dLow = buffer.Need(rows * rank);
  const Factors factors = FactorsOf(attributes);
  Product({dy.data, columns}, rows, columns, {b.data, rank}, rank, {}, dLow, factors);
  Scale(dLow, rows * rank, attributes.scale);
  Product({dLow, rank}, rows, rank, {a.data, width}, width, {onto.data, width}, dx.data, factors);
  Product({dLow, rank, true}, rank, rows, {x.data, width}, width, {}, da.data, factors);
  Product({dy.data, columns, true}, columns, rows, {low.data, rank}, rank, {}, db.data, factors);
}

const Implementation kImplementations[] = {
    {"FirstframeMatMul", MatMul<false>},
    {"FirstframeMatMulBias", MatMul<true>},
    {"FirstframeLowRank", LowRank},
    {"FirstframeLowRankGrad", LowRankGradient},
};

}  // namespace
}  // namespace firstframe
