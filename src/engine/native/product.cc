#include "product.h"

#include <stdlib.h>

#include <algorithm>
#include <string>

namespace firstframe {

namespace base {
const Processor& Functions();
}
#ifdef FIRSTFRAME_X86
namespace v3 {
const Processor& Functions();
}
namespace v4 {
const Processor& Functions();
}
namespace bfloat16 {
Instructions Fastest();
void Pack(const Matrix& b, int64_t depth, int64_t columns, Half* packed, int64_t panelStep);
int64_t Scratch();
void Multiply(const Matrix& a, int64_t rows, int64_t depth, const Half* packed, int64_t panelStep, int64_t columns, Start start,
              float* c, int64_t cStep, float* scratch);
void Turn(const Halves& b, int64_t begin, int64_t end, Half* turned);
void ToHalves(const float* from, int64_t n, Half* to);
void Convolve(const Convolution& convolution, const Half* image, int64_t positions, float* sums);
}  // namespace bfloat16
#endif

const Processor& ThisProcessor() {
#ifdef FIRSTFRAME_X86
  static const Processor* chosen = __builtin_cpu_supports("x86-64-v4")   ? &v4::Functions()
                                   : __builtin_cpu_supports("x86-64-v3") ? &v3::Functions()
                                                                         : &base::Functions();
  return *chosen;
#else
  return base::Functions();
#endif
}

float* Buffer::Need(int64_t size) {
  if (size > size_) {
    data_.reset();
    const size_t bytes = (static_cast<size_t>(size) * sizeof(float) + 63) / 64 * 64;
    data_.reset(static_cast<float*>(aligned_alloc(64, bytes)));
    if (!data_) abort();
    size_ = size;
  }
  return data_.get();
}

Instructions Bfloat16Instructions() {
#ifdef FIRSTFRAME_X86
  static const Instructions chosen = [] {
    const Instructions fastest = bfloat16::Fastest();
    const char* asked = getenv("FIRSTFRAME_BFLOAT16");
    const std::string most = asked ? asked : "";
    const Instructions allowed = most == "none"          ? Instructions::kNone
                                 : most == "avx512_bf16" ? Instructions::kVectors
                                                         : Instructions::kTiles;
    return std::min(fastest, allowed);
  }();
  return chosen;
#else
  return Instructions::kNone;
#endif
}

#ifdef FIRSTFRAME_X86
namespace {

// Tiles take 32 of the depth at a time; of less than 16 they would not fit into a float32 panel's place, nor pay.
bool InHalves(Factors factors, int64_t depth) {
  return factors == Factors::kBfloat16 && depth >= 16 && MultipliesBfloat16();
}

// Panels lie as far apart as float32's would.
int64_t PanelStep(int64_t depth) { return depth * kHalfColumns * 2; }

float* HalvesScratch() {
  thread_local Buffer scratch;
  return scratch.Need(bfloat16::Scratch());
}

}  // namespace
#endif

void Multiply(const Matrix& a, int64_t rows, const Halves& b, int64_t firstPanel, int64_t lastPanel, Start start, float* c,
              int64_t cStep) {
#ifdef FIRSTFRAME_X86
  const int64_t from = firstPanel * kHalfColumns, columns = std::min(lastPanel * kHalfColumns, b.columns) - from;
  bfloat16::Multiply(a, rows, b.depth, b.data + firstPanel * b.panelSize(), b.panelSize(), columns, start, c, cStep,
                     HalvesScratch());
#endif
}

void Turn(const Halves& b, int64_t begin, int64_t end, Half* turned) {
#ifdef FIRSTFRAME_X86
  bfloat16::Turn(b, begin, end, turned);
#endif
}

void ToHalves(const float* from, int64_t n, Half* to) {
#ifdef FIRSTFRAME_X86
  bfloat16::ToHalves(from, n, to);
#endif
}

void Convolve(const Convolution& convolution, const Half* image, int64_t positions, float* sums) {
#ifdef FIRSTFRAME_X86
  bfloat16::Convolve(convolution, image, positions, sums);
#endif
}

int64_t PackedSize(int64_t depth, int64_t columns) {
  const int64_t width = ThisProcessor().columns;
  return depth * ((columns + width - 1) / width * width);
}

void Pack(const Matrix& b, int64_t depth, int64_t columns, float* packed, Factors factors) {
#ifdef FIRSTFRAME_X86
  if (InHalves(factors, depth)) return bfloat16::Pack(b, depth, columns, reinterpret_cast<Half*>(packed), PanelStep(depth));
#endif
  const Processor& processor = ThisProcessor();
  const int64_t width = processor.columns, panels = columns / width, from = panels * width, rest = columns - from;
  (b.byColumn ? processor.packColumns : processor.packRows)(b.data, b.step, depth, panels, packed);
  if (rest == 0) return;
  packed += depth * from;
  std::fill(packed, packed + depth * width, 0.0f);
  if (b.byColumn) {
    for (int64_t n = 0; n < rest; n++) {
      for (int64_t k = 0; k < depth; k++) packed[k * width + n] = *b.At(k, from + n);
    }
  } else {
    for (int64_t k = 0; k < depth; k++) memcpy(packed + k * width, b.At(k, from), sizeof(float) * rest);
  }
}

namespace {

constexpr int64_t kDepth = 256;      // of a panel's piece that has to stay in the first cache
constexpr int64_t kRows = 112;       // of the other factor's piece that has to stay in the second
constexpr int64_t kFarApart = 1024;  // rows so far apart fall on the same lines of the first cache

// A piece of `a` with its rows close together.
Matrix Closer(const Matrix& a, int64_t row, int64_t rows, int64_t k, int64_t depth) {
  Matrix piece{a.At(row, k), a.step, a.byColumn};
  if (a.step < kFarApart) return piece;
  thread_local Buffer buffer;
  const int64_t lines = a.byColumn ? depth : rows, length = a.byColumn ? rows : depth;
  piece.step = length + 16;
  float* copy = buffer.Need(lines * piece.step);
  for (int64_t i = 0; i < lines; i++) {
    memcpy(copy + i * piece.step, (a.byColumn ? a.At(row, k + i) : a.At(row + i, k)), sizeof(float) * length);
  }
  piece.data = copy;
  return piece;
}

}  // namespace

void Multiply(const Matrix& a, int64_t rows, int64_t depth, const float* packed, int64_t columns, Start start, float* c,
              int64_t cStep, Factors factors) {
#ifdef FIRSTFRAME_X86
  if (InHalves(factors, depth)) {
    return bfloat16::Multiply(a, rows, depth, reinterpret_cast<const Half*>(packed), PanelStep(depth), columns, start, c, cStep,
                              HalvesScratch());
  }
#endif
  const Processor& processor = ThisProcessor();
  const int64_t width = processor.columns;
  thread_local Buffer edge;
  float* last = edge.Need(processor.rows * width);
  const int64_t pieces = std::max<int64_t>(1, (depth + kDepth - 1) / kDepth);
  for (int64_t row = 0; row < rows; row += kRows) {
    const int64_t high = std::min(kRows, rows - row);
    for (int64_t piece = 0; piece < pieces; piece++) {
      const int64_t k = depth * piece / pieces, length = depth * (piece + 1) / pieces - k;
      const Start from = piece > 0 ? Start{c, cStep} : start;
      const Matrix close = Closer(a, row, high, k, length);
      const int64_t tiles = (high + processor.rows - 1) / processor.rows;
      for (int64_t n = 0; n < columns; n += width) {
        const float* panel = packed + n * depth + k * width;
        const int64_t count = std::min(width, columns - n);
        for (int64_t i = 0; i < tiles; i++) {
          const int64_t first = high * i / tiles, m = high * (i + 1) / tiles - first;
          const float* begin = from.data ? from.data + (row + first) * from.step + n : nullptr;
          float* target = c + (row + first) * cStep + n;
          Tile tile{close.At(first, 0), close.step, nullptr, 1, length, panel, begin, from.step, target, cStep};
          if (count < width) {
            for (int64_t j = 0; begin && j < m; j++) memcpy(last + j * width, begin + j * from.step, sizeof(float) * count);
            if (begin) tile.start = last, tile.startStep = width;
            tile.c = last, tile.cStep = width;
          }
          (close.byColumn ? processor.byColumn : processor.byRow)[m - 1](tile);
          for (int64_t j = 0; count < width && j < m; j++) memcpy(target + j * cStep, last + j * width, sizeof(float) * count);
        }
      }
    }
  }
}

}  // namespace firstframe
