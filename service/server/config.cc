#include "service/server/config.h"

#include <cstdlib>

namespace mlops::server {

std::vector<std::string> ChangedSettings(const Config& before,
                                         const Config& after) {
  std::vector<std::string> names;
  for (size_t i = 0; i < before.settings.size(); ++i) {
    if (before.settings[i].value != after.settings[i].value)
      names.push_back(before.settings[i].name);
  }
  return names;
}

bool ReloadsOnHangup(const Config& config) {
  return !config.config_file.empty() || std::getenv("NOTIFY_SOCKET") != nullptr;
}

}  // namespace mlops::server
