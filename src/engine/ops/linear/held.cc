// Weights that are held as bfloat16, half of float32's memory, and products with them.

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

// Where a panel's number in row k and column n lies in it.
INLINE int64_t Place(int64_t k, int64_t n) {
  return k / 32 * 1024 + n / 16 * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2;
}

const Half* DataOf(const View& view) { return reinterpret_cast<const Half*>(view.data); }

// Tensors of bfloat16 numbers are int32's for TensorFlow.js, two numbers in each.
// Matrices of three axes: which of them counts the matrices, their rows and their columns, `lengths` says.
void Hold(Call& call, const Attributes& attributes) {
  const View weight = call.Input(0);
  if (!call.ok()) return;
  const int64_t strides[] = {weight.shape[1] * weight.shape[2], weight.shape[2], 1};
  const auto size = [&](int i) { return weight.shape[attributes.lengths[i]]; };
  const auto step = [&](int i) { return strides[attributes.lengths[i]]; };
  const int64_t count = size(0), depth = size(1), columns = size(2), apart = step(0), down = step(1), across = step(2);
  const Halves one{nullptr, depth, columns};
  const View held = call.Output(0, {count, one.panels(), one.panelSize() / 2}, TF_INT32);
  if (!call.ok()) return;
  Half* all = reinterpret_cast<Half*>(held.data);
  ParallelFor(one.panels(), 1 + (1 << 14) / (count * one.panelSize()), [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; panel++) {
      Half* to = all + panel * one.panelSize();
      for (int64_t i = 0; i < count; i++) std::fill(to + i * one.size(), to + i * one.size() + one.panelSize(), 0);
      const int64_t first = panel * kHalfColumns, last = std::min(first + kHalfColumns, columns);
      // In the order that they lie in: columns farthest apart, or rows.
      const bool byColumn = across > down;
      for (int64_t outer = byColumn ? first : 0; outer < (byColumn ? last : depth); outer++) {
        for (int64_t inner = byColumn ? 0 : first; inner < (byColumn ? depth : last); inner++) {
          const int64_t k = byColumn ? inner : outer, n = byColumn ? outer : inner;
          const float* from = weight.data + k * down + n * across;
          Half* place = to + Place(k, n - first);
          for (int64_t i = 0; i < count; i++) place[i * one.size()] = ToHalf(from[i * apart]);
        }
      }
    }
  });
}

// One matrix again, [columns, depth] if turned.
void Widen(const Halves& held, bool turned, float* to) {
  ParallelFor(turned ? held.columns : held.depth, 1 + (1 << 14) / (1 + held.depth), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t length = turned ? held.depth : held.columns;
      for (int64_t j = 0; j < length; j++) {
        const int64_t k = turned ? j : i, n = turned ? i : j;
        to[i * length + j] = ToFloat(held.data[n / kHalfColumns * held.panelSize() + Place(k, n % kHalfColumns)]);
      }
    }
  });
}

void Release(Call& call, const Attributes& attributes) {
  const View held = call.Input(0);
  if (!call.ok()) return;
  const bool turned = attributes.transposeB;
  const int64_t count = held.shape[0], depth = attributes.depth, columns = attributes.columns;
  const View weight = call.Output(0, turned ? std::vector<int64_t>{count, columns, depth} : std::vector<int64_t>{count, depth, columns});
  if (!call.ok()) return;
  const Halves one{DataOf(held), depth, columns};
  for (int64_t i = 0; i < count; i++) {
    Widen({one.data + i * one.size(), depth, columns}, turned, weight.data + i * depth * columns);
  }
}

constexpr int64_t kShort = 448;  // rows for which each thread takes panels of its own

// y [rows, columns] = start + a b.
void HeldProduct(const Matrix& a, int64_t rows, const Halves& b, Start start, float* y) {
  const int64_t columns = b.columns;
  if (rows <= kShort) {
    ParallelFor(b.panels(), 1 + (1 << 17) / (1 + rows * b.depth), [&](int64_t begin, int64_t end) {
      const int64_t from = begin * kHalfColumns;
      Multiply(a, rows, b, begin, end, start.data ? Start{start.data + from, start.step} : Start{}, y + from, columns);
    });
    return;
  }
  const int64_t together = std::max<int64_t>(64, (rows + 4 * Threads() - 1) / (4 * Threads()));
  ParallelFor(rows, together, [&](int64_t begin, int64_t end) {
    Multiply({a.At(begin, 0), a.step}, end - begin, b, 0, b.panels(),
             start.data ? Start{start.data + begin * start.step, start.step} : Start{}, y + begin * columns, columns);
  });
}

template <bool kBias>
void HeldMatMul(Call& call, const Attributes& attributes) {
  const View a = call.Input(0), held = call.Input(1), bias = kBias ? call.Input(2) : View{nullptr, {0}};
  if (!call.ok()) return;
  const Halves b{DataOf(held), attributes.depth, attributes.columns};
  const bool turned = attributes.transposeB;
  const int64_t rows = a.rows(), depth = turned ? b.columns : b.depth, columns = turned ? b.depth : b.columns;
  std::vector<int64_t> shape(a.shape.begin(), a.shape.end() - 1);
  shape.push_back(columns);
  const View y = call.Output(0, shape);
  if (!call.ok() || y.size() == 0) return;
  const Matrix left{a.data, a.width()};
  const Start start{kBias ? bias.data : nullptr, 0};
  Buffer buffer;
  if (!MultipliesBfloat16()) {
    float* weight = buffer.Need(b.depth * b.columns);
    Widen(b, true, weight);
    return Product(left, rows, depth, {weight, b.depth, !turned}, columns, start, y.data, Factors::kFloat32);
  }
  if (!turned) return HeldProduct(left, rows, b, start, y.data);
  Halves other{nullptr, depth, columns};
  Half* panels = reinterpret_cast<Half*>(buffer.Need(other.size() / 2));
  other.data = panels;
  ParallelFor(other.panels(), 1 + (1 << 16) / other.panelSize(),
              [&](int64_t begin, int64_t end) { Turn(b, begin, end, panels + begin * other.panelSize()); });
  HeldProduct(left, rows, other, start, y.data);
}

// Numbers in the order that they have, the last axis halved.
void Round(Call& call, const Attributes&) {
  const View x = call.Input(0);
  if (!call.ok()) return;
  std::vector<int64_t> shape = x.shape;
  shape.back() /= 2;
  const View rounded = call.Output(0, shape, TF_INT32);
  if (!call.ok()) return;
  Half* to = reinterpret_cast<Half*>(rounded.data);
  ParallelFor(x.size(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) to[i] = ToHalf(x.data[i]);
  });
}

void WidenRows(Call& call, const Attributes&) {
  const View rounded = call.Input(0);
  if (!call.ok()) return;
  std::vector<int64_t> shape = rounded.shape;
  shape.back() *= 2;
  const View x = call.Output(0, shape);
  if (!call.ok()) return;
  const Half* from = DataOf(rounded);
  ParallelFor(x.size(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) x.data[i] = ToFloat(from[i]);
  });
}

const Implementation kImplementations[] = {
    {"FirstframeHold", Hold},
    {"FirstframeRelease", Release},
    {"FirstframeHeldMatMul", HeldMatMul<false>},
    {"FirstframeHeldMatMulBias", HeldMatMul<true>},
    {"FirstframeRound", Round},
    {"FirstframeWiden", WidenRows},
};

}  // namespace
}  // namespace firstframe
