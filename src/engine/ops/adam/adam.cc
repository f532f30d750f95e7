// One step of Adam or AdamW in one pass. What changes from step to step comes as a tensor: TensorFlow would keep a kernel for
// each value of an attribute.

#include <math.h>

#include "op.h"

namespace firstframe {
namespace {

struct Settings {
  float beta1Rest, beta2, beta2Rest, eps, stepSize, correction, shrink, decay, scale;
};

struct State {
  float *weight, *expAvg, *expAvgSq;
};

VECTORISED void Step(const State& from, const float* gradient, const State& to, const Settings& s, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float g = gradient[i] * s.scale + from.weight[i] * s.decay;
    const float m = from.expAvg[i] + (g - from.expAvg[i]) * s.beta1Rest;
    const float v = from.expAvgSq[i] * s.beta2 + g * g * s.beta2Rest;
    to.weight[i] = from.weight[i] * s.shrink - m / (sqrtf(v) / s.correction + s.eps) * s.stepSize;
    to.expAvg[i] = m;
    to.expAvgSq[i] = v;
  }
}

const Implementation kImplementations[] = {
    {"FirstframeAdam",
     [](Call& call, const Attributes&) {
       const View weight = call.Input(0), gradient = call.Input(1), expAvg = call.Input(2), expAvgSq = call.Input(3),
                  given = call.Input(4);
       if (!call.ok()) return;
       View outputs[3];
       for (int i = 0; i < 3; i++) {
         outputs[i] = call.Output(i, weight.shape);
         if (!call.ok()) return;
       }
       Settings settings;
       static_assert(sizeof settings == 9 * sizeof(float));
       memcpy(&settings, given.data, sizeof settings);
       ParallelFor(weight.size(), 1 << 14, [&](int64_t begin, int64_t end) {
         const State from{weight.data + begin, expAvg.data + begin, expAvgSq.data + begin};
         const State to{outputs[0].data + begin, outputs[1].data + begin, outputs[2].data + begin};
         Step(from, gradient.data + begin, to, settings, end - begin);
       });
     }},
};

}  // namespace
}  // namespace firstframe
