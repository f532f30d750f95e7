// The addon: `define(name, inputs, outputs, attributes)` registers an operation with the libtensorflow that is loaded;
// `bfloat16` names this processor's instructions for products of bfloat16 factors, or is empty.

#include <node_api.h>

#include "op.h"
#include "product.h"

namespace {

std::string Text(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, nullptr, 0, &length);
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

std::vector<std::string> Texts(napi_env env, napi_value list) {
  uint32_t length = 0;
  napi_get_array_length(env, list, &length);
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    napi_get_element(env, list, i, &element);
    texts.push_back(Text(env, element));
  }
  return texts;
}

napi_value Define(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const std::string name = Text(env, arguments[0]);
  const std::string problem =
      firstframe::Define(name, Texts(env, arguments[1]), Texts(env, arguments[2]), Texts(env, arguments[3]));
  if (!problem.empty()) napi_throw_error(env, nullptr, (name + ": " + problem).c_str());
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value define;
  napi_create_function(env, "define", NAPI_AUTO_LENGTH, Define, nullptr, &define);
  napi_set_named_property(env, exports, "define", define);
  const firstframe::Instructions instructions = firstframe::Bfloat16Instructions();
  const char* name = instructions == firstframe::Instructions::kTiles     ? "amx"
                     : instructions == firstframe::Instructions::kVectors ? "avx512_bf16"
                                                                          : "";
  napi_value bfloat16;
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &bfloat16);
  napi_set_named_property(env, exports, "bfloat16", bfloat16);
  return exports;
}
