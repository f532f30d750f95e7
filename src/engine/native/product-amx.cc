// Tiles of products whose factors are rounded to bfloat16 and whose sums are float32, on Intel's AMX. Panels have as many
// columns as those of x86-64-v4, so that whoever parts a matrix need not know which of the two multiplies.

#include "product.h"

#ifdef FIRSTFRAME_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#pragma GCC target("arch=sapphirerapids")
#include <immintrin.h>

// Of this, vectors and their transposition.
#define FIRSTFRAME_KIND amx
#define FIRSTFRAME_LANES 16
#define FIRSTFRAME_ROWS 1
#include "product-kernels.h"

namespace firstframe {
namespace amx {

typedef uint16_t Half;

constexpr int64_t kPanel = 32;  // columns: two tiles
constexpr int64_t kStep = 32;   // of the depth, that a tile takes at a time
constexpr int64_t kTile = 512;  // halves in a tile: 16 rows of 32

int64_t Padded(int64_t depth) { return (depth + kStep - 1) / kStep * kStep; }

// A piece of a is converted at a time, and stays in the second cache while panels go by.
constexpr int64_t kRows = 256, kDepth = 1024;
constexpr int64_t kLine = kDepth + 32;  // rows are off each other's lines of the cache

// The system saves tiles only for processes that have asked for them.
bool Runs() {
  static const bool runs = [] {
    constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("x86-64-v4") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool tiles = d >> 24 & 1, products = d >> 22 & 1;
    const bool conversion = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    return tiles && products && conversion && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return runs;
}

INLINE __m512 Part(const float* from, int64_t n) {
  if (n >= 16) return _mm512_loadu_ps(from);
  return n <= 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((1u << n) - 1, from);
}

INLINE __m512i Halves(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// Of 16 halves and another 16: one of each in turn.
INLINE __m512i InTurn(__m512i both) {
  alignas(64) static const Half order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                             8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), both);
}

// 16 lines of 32 numbers along the depth become a tile: 16 rows, one a pair of depths, of the lines' pairs.
INLINE void Turn(const float* from, int64_t step, int64_t lines, int64_t depth, Half* to) {
  Vector square[16];
  for (int i = 0; i < 16; i++) {
    const float* line = from + i * step;
    const __m512i pairs = i < lines ? Halves(Part(line, depth), Part(line + 16, depth - 16)) : _mm512_setzero_si512();
    memcpy(&square[i], &pairs, 64);
  }
  Transpose<1>(square);
  for (int i = 0; i < 16; i++) memcpy(to + i * 32, &square[i], 64);
}

void Pack(const Matrix& b, int64_t depth, int64_t columns, float* packed) {
  constexpr int64_t kTogether = 8;  // panels that are written in turn while rows of b are read
  const int64_t padded = Padded(depth), panels = (columns + kPanel - 1) / kPanel;
  const auto panelAt = [=](int64_t panel) { return reinterpret_cast<Half*>(packed + panel * kPanel * depth); };
  if (b.byColumn) {
    for (int64_t panel = 0; panel < panels; panel++) {
      Half* to = panelAt(panel);
      for (int64_t k = 0; k < padded; k += kStep) {
        for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; n += 16, to += kTile) {
          if (n < columns) Turn(b.data + n * b.step + k, b.step, columns - n, depth - k, to);
          else memset(to, 0, sizeof(Half) * kTile);
        }
      }
    }
    return;
  }
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t end = first + kTogether < panels ? first + kTogether : panels;
    for (int64_t k = 0; k < padded; k += 2) {
      for (int64_t panel = first; panel < end; panel++) {
        Half* to = panelAt(panel) + k / kStep * 2 * kTile + k % kStep / 2 * 32;
        for (int64_t n = panel * kPanel; n < (panel + 1) * kPanel; n += 16, to += kTile) {
          const float* from = b.data + k * b.step + n;
          const __m512 low = k < depth ? Part(from, columns - n) : _mm512_setzero_ps();
          const __m512 high = k + 1 < depth ? Part(from + b.step, columns - n) : _mm512_setzero_ps();
          __builtin_prefetch(from + 8 * b.step);
          _mm512_store_si512(to, InTurn(Halves(low, high)));
        }
      }
    }
  }
}

struct alignas(64) Shapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// A piece of a as halves, row by row; filled up with zeros to whole tiles.
static void Convert(const Matrix& a, int64_t row, int64_t rows, int64_t from, int64_t depth, Half* near) {
  const int64_t padded = Padded(depth), full = (rows + 31) / 32 * 32;
  if (!a.byColumn) {
    for (int64_t i = 0; i < full; i++) {
      const float* line = a.data + (row + i) * a.step + from;
      for (int64_t k = 0; k < padded; k += 32) {
        const __m512i both =
            i < rows ? Halves(Part(line + k, depth - k), Part(line + k + 16, depth - k - 16)) : _mm512_setzero_si512();
        _mm512_storeu_si512(near + i * kLine + k, both);
      }
    }
    return;
  }
  for (int64_t k = 0; k < padded; k += 32) {
    for (int64_t i = 0; i < full; i += 16) {  // 16 pairs of depths for 16 rows
      Vector square[16];
      for (int64_t pair = 0; pair < 16; pair++) {
        const int64_t at = k + 2 * pair;
        const float* line = a.data + (from + at) * a.step + row + i;
        const __m512 low = at < depth ? Part(line, rows - i) : _mm512_setzero_ps();
        const __m512 high = at + 1 < depth ? Part(line + a.step, rows - i) : _mm512_setzero_ps();
        __builtin_prefetch(line + kStep * a.step);
        __builtin_prefetch(line + (kStep + 1) * a.step);
        const __m512i pairs = InTurn(Halves(low, high));
        memcpy(&square[pair], &pairs, 64);
      }
      Transpose<1>(square);
      for (int64_t j = 0; j < 16; j++) memcpy(near + (i + j) * kLine + k, &square[j], 64);
    }
  }
}

// A square of 32 x 32 sums in four tiles.
struct Square {
  const float* start;
  int64_t startStep;
  float* end;
  int64_t endStep;
};

static void Sum(const Half* upper, const Half* b, int64_t padded, const Square& square) {
  const Half* lower = upper + 16 * kLine;
  if (square.start) {
    const float* from = square.start;
    const int64_t step = square.startStep;
    _tile_loadd(0, from, step * 4);
    _tile_loadd(1, from + 16, step * 4);
    _tile_loadd(2, from + 16 * step, step * 4);
    _tile_loadd(3, from + 16 * step + 16, step * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < padded; k += kStep, b += 2 * kTile) {
    _tile_loadd(4, upper + k, kLine * 2);
    _tile_loadd(6, b, 64);
    _tile_loadd(5, lower + k, kLine * 2);
    _tile_loadd(7, b + kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, square.end, square.endStep * 4);
  _tile_stored(1, square.end + 16, square.endStep * 4);
  _tile_stored(2, square.end + 16 * square.endStep, square.endStep * 4);
  _tile_stored(3, square.end + 16 * square.endStep + 16, square.endStep * 4);
}

int64_t Scratch() { return kRows * kLine / 2 + 32 * 32; }

void Multiply(const Matrix& a, int64_t rows, int64_t depth, const float* packed, int64_t columns, Start start, float* c,
              int64_t cStep, float* scratch) {
  Shapes shapes;
  for (int i = 0; i < 8; i++) shapes.bytes[i] = 64, shapes.rows[i] = 16;
  _tile_loadconfig(&shapes);
  Half* near = reinterpret_cast<Half*>(scratch);
  float* edge = scratch + kRows * kLine / 2;  // a square that is not whole is computed here
  for (int64_t row = 0; row < rows; row += kRows) {
    const int64_t high = rows - row < kRows ? rows - row : kRows;
    for (int64_t from = 0; from < depth; from += kDepth) {
      const int64_t length = depth - from < kDepth ? depth - from : kDepth;
      const Start sums = from > 0 ? Start{c, cStep} : start;
      Convert(a, row, high, from, length, near);
      for (int64_t i = 0; i < high; i += 32) {
        const int64_t tall = high - i < 32 ? high - i : 32;
        for (int64_t n = 0; n < columns; n += kPanel) {
          const Half* panel = reinterpret_cast<const Half*>(packed + n * depth) + from / kStep * 2 * kTile;
          const int64_t wide = columns - n < kPanel ? columns - n : kPanel;
          const float* begin = sums.data ? sums.data + (row + i) * sums.step + n : nullptr;
          float* target = c + (row + i) * cStep + n;
          if (wide == 32 && tall == 32) {
            Sum(near + i * kLine, panel, Padded(length), {begin, sums.step, target, cStep});
            continue;
          }
          for (int64_t j = 0; begin && j < tall; j++) memcpy(edge + j * 32, begin + j * sums.step, sizeof(float) * wide);
          Sum(near + i * kLine, panel, Padded(length), {begin ? edge : nullptr, 32, edge, 32});
          for (int64_t j = 0; j < tall; j++) memcpy(target + j * cStep, edge + j * 32, sizeof(float) * wide);
        }
      }
    }
  }
  _tile_release();
}

}  // namespace amx
}  // namespace firstframe
#endif
