#include "op.h"

#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace firstframe {
namespace {

#ifdef FIRSTFRAME_X86
INLINE void Pause() { __builtin_ia32_pause(); }
#else
INLINE void Pause() {}
#endif

// Looks for a while whether something has happened before a thread is put to sleep: waking it takes as long as a small
// operation does. The time is what lies between two operations of a model.
template <typename Happened>
void Watch(const Happened& happened) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::microseconds(100);
  for (int i = 1; !happened(); i++) {
    Pause();
    if (i % 64 == 0 && Clock::now() > end) return;
  }
}

// Threads that wait for work; the calling thread works too.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; i++) std::thread([this] { Serve(); }).detach();
    threads_ = threads;
  }

  int threads() const { return threads_; }

  void Run(int parts, const std::function<void(int)>& work) {
    std::unique_lock<std::mutex> one(callers_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      parts_ = parts;
      next_ = 0;
      unfinished_ = parts;
      generation_++;
    }
    wake_.notify_all();
    Work(work, parts);
    Watch([this] { return unfinished_ == 0 && busy_ == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return unfinished_ == 0 && busy_ == 0; });
    work_ = nullptr;
  }

 private:
  void Work(const std::function<void(int)>& work, int parts) {
    for (int part; (part = next_.fetch_add(1)) < parts;) {
      work(part);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--unfinished_ == 0) done_.notify_all();
    }
  }

  void Serve() {
    uint64_t seen = 0;
    for (;;) {
      const std::function<void(int)>* work;
      int parts;
      Watch([&] { return generation_ != seen; });
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen && work_ != nullptr; });
        seen = generation_;
        work = work_;
        parts = parts_;
        busy_++;
      }
      Work(*work, parts);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_all();
    }
  }

  int threads_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* work_ = nullptr;
  int parts_ = 0;
  // written under the mutex, and watched without it
  std::atomic<int> unfinished_{0}, busy_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> next_{0};
};

int ThreadCount() {
  const char* asked = getenv("TF_NUM_INTRAOP_THREADS");
  const int count = asked ? atoi(asked) : 0;
  return count > 0 ? count : static_cast<int>(std::thread::hardware_concurrency());
}

// Never destroyed: its threads may outlive static storage.
Pool& ThePool() {
  static Pool* pool = new Pool(ThreadCount());
  return *pool;
}

struct Kernel {
  Attributes attributes;
  Compute compute;
};

struct Definition {
  std::vector<std::string> attributes;
  Compute compute;
};

// Filled by static constructors, whose order is not known.
std::map<std::string, Compute>& Implementations() {
  static auto* all = new std::map<std::string, Compute>;
  return *all;
}

std::vector<Definition*>& Definitions() {
  static auto* all = new std::vector<Definition*>;
  return *all;
}

std::vector<int64_t> IntList(TF_OpKernelConstruction* construction, const char* name, TF_Status* status) {
  int32_t length = 0, total = 0;
  TF_OpKernelConstruction_GetAttrSize(construction, name, &length, &total, status);
  std::vector<int64_t> values(length > 0 ? length : 0);
  if (!values.empty()) TF_OpKernelConstruction_GetAttrInt64List(construction, name, values.data(), length, status);
  return values;
}

template <typename T>
using Member = std::pair<const char*, T Attributes::*>;
const Member<float> kFloats[] = {{"eps", &Attributes::eps}, {"scale", &Attributes::scale}};
const Member<bool> kFlags[] = {
    {"silu", &Attributes::silu}, {"transposeA", &Attributes::transposeA}, {"transposeB", &Attributes::transposeB},
    {"rounded", &Attributes::rounded}};
const Member<int64_t> kNumbers[] = {
    {"groups", &Attributes::groups}, {"batch", &Attributes::batch}, {"heads", &Attributes::heads},
    {"depth", &Attributes::depth}, {"columns", &Attributes::columns}};
const Member<std::vector<int64_t>> kLists[] = {
    {"lengths", &Attributes::lengths}, {"calls", &Attributes::calls}, {"chunks", &Attributes::chunks}};

template <typename T, size_t N>
T* Find(const Member<T> (&members)[N], const std::string& name, Attributes& attributes) {
  for (const auto& [known, member] : members) {
    if (name == known) return &(attributes.*member);
  }
  return nullptr;
}

// Whether an attribute ("eps: float") is one of those above, of that type.
bool IsKnown(const std::string& attribute) {
  const size_t colon = attribute.find(": ");
  const std::string name = attribute.substr(0, colon), type = colon == std::string::npos ? "" : attribute.substr(colon + 2);
  Attributes any;
  return type == "float" ? Find(kFloats, name, any) != nullptr
       : type == "bool" ? Find(kFlags, name, any) != nullptr
       : type == "int" ? Find(kNumbers, name, any) != nullptr
       : type == "list(int)" && Find(kLists, name, any) != nullptr;
}

Kernel* Create(TF_OpKernelConstruction* construction, const Definition& definition) {
  auto* kernel = new Kernel{{}, definition.compute};
  TF_Status* status = TF_NewStatus();
  Attributes& attributes = kernel->attributes;
  for (const std::string& attribute : definition.attributes) {
    const std::string name = attribute.substr(0, attribute.find(':'));
    const char* key = name.c_str();
    if (float* value = Find(kFloats, name, attributes)) TF_OpKernelConstruction_GetAttrFloat(construction, key, value, status);
    if (bool* value = Find(kFlags, name, attributes)) {
      TF_Bool flag = 0;
      TF_OpKernelConstruction_GetAttrBool(construction, key, &flag, status);
      *value = flag;
    }
    if (int64_t* value = Find(kNumbers, name, attributes)) TF_OpKernelConstruction_GetAttrInt64(construction, key, value, status);
    if (auto* value = Find(kLists, name, attributes)) *value = IntList(construction, key, status);
    if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  }
  TF_DeleteStatus(status);
  return kernel;
}

// TensorFlow's constructors get no argument of ours, so each operation has a function of its own.
template <int I>
void* CreateAt(TF_OpKernelConstruction* construction) {
  return Create(construction, *Definitions()[I]);
}

template <int... I>
std::vector<void* (*)(TF_OpKernelConstruction*)> Constructors(std::integer_sequence<int, I...>) {
  return {CreateAt<I>...};
}

void Run(void* kernel, TF_OpKernelContext* context) {
  const auto* self = static_cast<Kernel*>(kernel);
  Call call(context);
  self->compute(call, self->attributes);
}

}  // namespace

int Threads() { return ThePool().threads(); }

void ParallelFor(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  if (count <= 0) return;
  const int64_t most = (count + grain - 1) / (grain > 0 ? grain : 1);
  Pool& pool = ThePool();
  const int parts = static_cast<int>(most < 4 * pool.threads() ? most : 4 * pool.threads());
  if (parts <= 1 || pool.threads() == 1) return work(0, count);
  pool.Run(parts, [&](int part) { work(count * part / parts, count * (part + 1) / parts); });
}

int64_t View::size() const {
  int64_t product = 1;
  for (int64_t n : shape) product *= n;
  return product;
}

int64_t View::rows() const {
  int64_t product = 1;
  for (size_t axis = 0; axis + 1 < shape.size(); axis++) product *= shape[axis];
  return product;
}

Call::Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}

Call::~Call() {
  if (!ok()) TF_OpKernelContext_Failure(context_, status_);
  for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
  TF_DeleteStatus(status_);
}

View Call::Input(int i) {
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context_, i, &tensor, status_);
  if (!ok()) return {nullptr, {0}};
  tensors_.push_back(tensor);
  View view{static_cast<float*>(TF_TensorData(tensor)), {}};
  for (int axis = 0; axis < TF_NumDims(tensor); axis++) view.shape.push_back(TF_Dim(tensor, axis));
  if (view.shape.empty()) view.shape.push_back(1);
  return view;
}

View Call::Output(int i, const std::vector<int64_t>& shape, TF_DataType type) {
  View view{nullptr, shape};
  TF_Tensor* tensor = TF_AllocateOutput(context_, i, type, shape.data(), static_cast<int>(shape.size()),
                                        sizeof(float) * static_cast<size_t>(view.size()), status_);
  if (!ok()) return {nullptr, {0}};
  tensors_.push_back(tensor);
  view.data = static_cast<float*>(TF_TensorData(tensor));
  return view;
}

Implementation::Implementation(const char* name, Compute compute) { Implementations()[name] = compute; }

std::string Define(const std::string& name, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                   const std::vector<std::string>& attributes) {
  static const auto constructors = Constructors(std::make_integer_sequence<int, 64>());
  const auto implementation = Implementations().find(name);
  if (implementation == Implementations().end()) return "there is no implementation of that name";
  const size_t index = Definitions().size();
  if (index >= constructors.size()) return "there are more operations than constructors";
  for (const std::string& attribute : attributes) {
    if (!IsKnown(attribute)) return "no implementation has an attribute " + attribute;
  }
  Definitions().push_back(new Definition{attributes, implementation->second});

  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name.c_str());
  for (const std::string& input : inputs) TF_OpDefinitionBuilderAddInput(definition, input.c_str());
  for (const std::string& output : outputs) TF_OpDefinitionBuilderAddOutput(definition, output.c_str());
  for (const std::string& attribute : attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute.c_str());
  TF_OpDefinitionBuilderSetShapeInferenceFunction(
      definition, [](TF_ShapeInferenceContext* context, TF_Status* status) {
        TF_ShapeInferenceContextSetUnknownShape(context, status);
      });
  TF_RegisterOpDefinition(definition, status);
  if (TF_GetCode(status) == TF_OK) {
    TF_RegisterKernelBuilder(name.c_str(),
                             TF_NewKernelBuilder(name.c_str(), "CPU", constructors[index], Run,
                                                 [](void* kernel) { delete static_cast<Kernel*>(kernel); }),
                             status);
  }
  const std::string problem = TF_GetCode(status) == TF_OK ? "" : TF_Message(status);
  TF_DeleteStatus(status);
  return problem;
}

}  // namespace firstframe
