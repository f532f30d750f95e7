// Weights that are held as bfloat16, half of float32's memory, and products with them.

#include <algorithm>

#include "product.h"

namespace firstframe {
namespace {

// To the nearest, ties to even. Weights are finite.
INLINE Half Rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return static_cast<Half>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE float Widened(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Where a panel's number in row k and column n lies in it.
INLINE int64_t Place(int64_t k, int64_t n) {
  return k / 32 * 1024 + n / 16 * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2;
}

const Half* DataOf(const View& view) { return reinterpret_cast<const Half*>(view.data); }

// Tensors of bfloat16 numbers are int32's for TensorFlow.js, two numbers in each.
void Hold(Call& call, const Attributes&) {
  const View weight = call.Input(0);  // [columns, depth]
  if (!call.ok()) return;
  const Halves shape{nullptr, weight.width(), weight.rows()};
  const View held = call.Output(0, {shape.panels(), shape.panelSize() / 2}, TF_INT32);
  if (!call.ok()) return;
  Half* all = reinterpret_cast<Half*>(held.data);
  ParallelFor(shape.panels(), 1 + (1 << 14) / shape.panelSize(), [&](int64_t begin, int64_t end) {
    std::fill(all + begin * shape.panelSize(), all + end * shape.panelSize(), 0);
    for (int64_t n = begin * kHalfColumns; n < std::min(end * kHalfColumns, shape.columns); n++) {
      const float* from = weight.data + n * shape.depth;
      Half* panel = all + n / kHalfColumns * shape.panelSize();
      for (int64_t k = 0; k < shape.depth; k++) panel[Place(k, n % kHalfColumns)] = Rounded(from[k]);
    }
  });
}

// [columns, depth] again.
void Widen(const Halves& held, float* to) {
  ParallelFor(held.columns, 1 + (1 << 14) / (1 + held.depth), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const Half* panel = held.data + n / kHalfColumns * held.panelSize();
      for (int64_t k = 0; k < held.depth; k++) to[n * held.depth + k] = Widened(panel[Place(k, n % kHalfColumns)]);
    }
  });
}

void Release(Call& call, const Attributes& attributes) {
  const View held = call.Input(0);
  if (!call.ok()) return;
  const View weight = call.Output(0, {attributes.columns, attributes.depth});
  if (call.ok()) Widen({DataOf(held), attributes.depth, attributes.columns}, weight.data);
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
    Widen(b, weight);
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
    for (int64_t i = begin; i < end; i++) to[i] = Rounded(x.data[i]);
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
    for (int64_t i = begin; i < end; i++) x.data[i] = Widened(from[i]);
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
