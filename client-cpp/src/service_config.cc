#include "client-cpp/src/service_config.h"

#include "google/protobuf/descriptor.pb.h"
#include "nlohmann/json.hpp"

namespace mlops::internal {

using google::protobuf::MethodDescriptor;
using google::protobuf::MethodOptions;
using google::protobuf::ServiceDescriptor;

bool IsRepeatable(const MethodDescriptor& method) {
  return method.options().idempotency_level() !=
         MethodOptions::IDEMPOTENCY_UNKNOWN;
}

std::string ServiceConfigJson(const ServiceDescriptor& service) {
  auto names = nlohmann::json::array();
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    const bool unary = !method.client_streaming() && !method.server_streaming();
    if (unary && IsRepeatable(method))
      names.push_back(
          {{"service", service.full_name()}, {"method", method.name()}});
  }
  const nlohmann::json retry_policy = {
      {"maxAttempts", 4},
      {"initialBackoff", "0.1s"},
      {"maxBackoff", "2s"},
      {"backoffMultiplier", 4},
      {"retryableStatusCodes", {"UNAVAILABLE"}}};
  const nlohmann::json method_config = {{"name", std::move(names)},
                                        {"retryPolicy", retry_policy}};
  // Throttling stops retries while most attempts fail, so that they add no load
  // to a failing server.
  const nlohmann::json config = {
      {"methodConfig", nlohmann::json::array({method_config})},
      {"retryThrottling", {{"maxTokens", 100}, {"tokenRatio", 0.1}}}};
  return config.dump();
}

}  // namespace mlops::internal
