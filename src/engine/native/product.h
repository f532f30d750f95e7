// Matrix products on the processor: tiles whose sums stay in registers, over a factor that is packed into panels.

#pragma once

#include <stdlib.h>

#include <memory>
#include <utility>

#include "op.h"

namespace firstframe {

// c[m][n] = start[m][n] + the sum over taps and k of a[m][offsets[tap] + k] * b[tap][k][n], for one panel of columns n.
struct Tile {
  const float* a;
  int64_t step;            // from one row of a to the next; by column, from one k to the next
  const int64_t* offsets;  // none: one tap at a
  int64_t taps, depth;
  const float* b;  // packed
  const float* start;  // none: zeros
  int64_t startStep;
  float* c;
  int64_t cStep;
};

using Function = void (*)(const Tile&);

// What a kind of processor does: rows of a tile at most, columns of a panel, and a function for each number of rows from 1.
struct Processor {
  int64_t rows, columns;
  const Function* byRow;
  const Function* byColumn;
  // Pack whole panels of b [depth, panels * columns], which lies row by row or column by column.
  void (*packRows)(const float* b, int64_t step, int64_t depth, int64_t panels, float* packed);
  void (*packColumns)(const float* b, int64_t step, int64_t depth, int64_t panels, float* packed);
};

const Processor& ThisProcessor();

// A matrix that is not owned: element (i, j) is data[i * step + j]; by column, data[j * step + i].
struct Matrix {
  const float* data;
  int64_t step;
  bool byColumn = false;

  const float* At(int64_t i, int64_t j) const { return byColumn ? data + j * step + i : data + i * step + j; }
};

// Memory without a value, aligned for vectors.
class Buffer {
 public:
  float* Need(int64_t size);

 private:
  struct Free {
    void operator()(float* data) const { free(data); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;
};

// What products are computed of: the factors as they are, or rounded to bfloat16, where the processor multiplies those
// faster. Sums are float32. A matrix has to be packed for what it is multiplied in.
enum class Factors { kFloat32, kBfloat16 };
inline Factors FactorsOf(const Attributes& attributes) {
  return attributes.rounded ? Factors::kBfloat16 : Factors::kFloat32;
}

// What this processor has for rounded factors: nothing, so that they are multiplied as they are; AVX512-BF16; AMX.
// FIRSTFRAME_BFLOAT16 takes less than there is: "avx512_bf16" or "none".
enum class Instructions { kNone, kVectors, kTiles };
Instructions Bfloat16Instructions();
inline bool MultipliesBfloat16() { return Bfloat16Instructions() != Instructions::kNone; }

// bfloat16: the upper half of a float.
typedef uint16_t Half;

// To the nearest, ties to even, of what is no NaN.
INLINE Half ToHalf(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return static_cast<Half>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE float ToFloat(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// A matrix that is held as bfloat16, in the order that tiles take it. A panel of kHalfColumns columns is made of steps of 32
// rows; a step is two tiles, of 16 columns each; a tile is 16 lines, each of two rows' numbers in turn. Zeros fill the last.
constexpr int64_t kHalfColumns = 32, kHalfRows = 32;
struct Halves {
  const Half* data;
  int64_t depth, columns;

  int64_t steps() const { return (depth + kHalfRows - 1) / kHalfRows; }
  int64_t panels() const { return (columns + kHalfColumns - 1) / kHalfColumns; }
  int64_t panelSize() const { return steps() * kHalfRows * kHalfColumns; }
  int64_t size() const { return panels() * panelSize(); }
};

// Numbers that `columns` columns of some depth take when packed, for whatever factors.
int64_t PackedSize(int64_t depth, int64_t columns);

// Packs b [depth, columns]: panels of [depth, a tile's columns], the last one filled up with zeros.
void Pack(const Matrix& b, int64_t depth, int64_t columns, float* packed, Factors factors);

// What a product starts from: nothing, a row for all (step 0), or the result so far.
struct Start {
  const float* data = nullptr;
  int64_t step = 0;
};

// c [rows, columns] = start + a [rows, depth] * packed b, on this thread.
void Multiply(const Matrix& a, int64_t rows, int64_t depth, const float* packed, int64_t columns, Start start, float* c,
              int64_t cStep, Factors factors);

// The same of a factor that is held as bfloat16, of which these panels are taken. Only if the processor MultipliesBfloat16.
void Multiply(const Matrix& a, int64_t rows, const Halves& b, int64_t firstPanel, int64_t lastPanel, Start start, float* c,
              int64_t cStep);

// The transposed matrix's panels from `begin` to `end`, each of 32 of b's rows. Only if the processor MultipliesBfloat16.
void Turn(const Halves& b, int64_t begin, int64_t end, Half* turned);

// n numbers as bfloat16, filled up with zeros to a multiple of 32. Only if the processor MultipliesBfloat16.
void ToHalves(const float* from, int64_t n, Half* to);

// A convolution: at each position of an image, a sum over taps of what lies at an offset, times the tap's matrix.
struct Convolution {
  Halves kernel;  // of the first tap; the others follow
  int64_t taps;
  const int64_t* offsets;
  int64_t step;       // from one position of the image to the next
  const float* bias;  // as many numbers as whole panels have columns
  int64_t sumStep;    // from one position's sums to the next's: at least as many
};

// The sums at `positions` places from `image` on, on this thread. Reads and writes up to 31 positions more.
void Convolve(const Convolution& convolution, const Half* image, int64_t positions, float* sums);

// c [rows, columns] = start + left [rows, depth] right, on all threads.
void Product(const Matrix& left, int64_t rows, int64_t depth, const Matrix& right, int64_t columns, Start start, float* y,
             Factors factors);

}  // namespace firstframe
