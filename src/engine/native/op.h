// What the fused operations share: TensorFlow's C API with less ceremony, threads, and one vectorisable exponential.

#pragma once

#include <stdint.h>
#include <string.h>

#include <functional>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

// Each loop over data is compiled for several generations of processors; the loader picks the one that runs here.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define FIRSTFRAME_X86
#else
#define VECTORISED
#endif

#define INLINE inline __attribute__((always_inline))

namespace firstframe {

int Threads();

// Calls work(begin, end) on parts of 0 .. count on several threads; no part is much smaller than `grain`.
void ParallelFor(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work);

// An operation's attributes, read once. Which of them it has is in its definition.
struct Attributes {
  float eps = 0, scale = 0;
  bool silu = false, transposeA = false, transposeB = false, rounded = false;
  int64_t groups = 0, batch = 0, heads = 0, depth = 0, columns = 0;
  std::vector<int64_t> lengths, calls, chunks;
};

// A tensor of floats, or of as many other bits, that is not owned here.
struct View {
  float* data;
  std::vector<int64_t> shape;
  int64_t size() const;
  // Numbers in the last axis, and how many such rows there are.
  int64_t width() const { return shape.back(); }
  int64_t rows() const;
};

class Call {
 public:
  explicit Call(TF_OpKernelContext* context);
  ~Call();
  View Input(int i);
  View Output(int i, const std::vector<int64_t>& shape, TF_DataType type = TF_FLOAT);
  bool ok() const { return TF_GetCode(status_) == TF_OK; }

 private:
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
};

// What an operation computes on the processor. Its inputs, outputs and attributes are defined where the
// operation is, in TypeScript (../ops), under the same name.
using Compute = void (*)(Call&, const Attributes&);
struct Implementation {
  Implementation(const char* name, Compute compute);
};

// Makes an operation of TensorFlow's of an implementation. `inputs`, `outputs` and `attributes` are as in TensorFlow's
// operation definitions: "x: float", "eps: float", "lengths: list(int)". Returns what is wrong, or "".
std::string Define(const std::string& name, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                   const std::vector<std::string>& attributes);

// e^x to two units in the last place (Cody and Waite's reduction, a polynomial of degree 7); saturates near float's limits.
INLINE float Exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

INLINE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

}  // namespace firstframe
