#ifndef MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_
#define MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mlops::core {

inline constexpr size_t kMaxPathBytes = 1024;
inline constexpr size_t kMaxNameBytes = 255;

// The path of an artifact below its workspace: names joined by '/', of which
// the first is one of kDirectories. Made by Parse() alone, so that no other can
// reach the file system.
//
// A name is 1 to 255 bytes of UTF-8 without '/', '\', control characters, and
// neither "." nor "..". What others have put on disk may have other names: of
// those, each byte that is not allowed or no UTF-8 is shown as `\xHH`,
// lower-case. As
// '\' is in no name that is allowed, one text stands for one name.
class RelativePath {
 public:
  enum class Use {
    kFind,  // What exists: names may be escaped.
    kMake,  // What is to be made: they may not.
  };

  // Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem} if `text` is empty,
  // INVALID_ARGUMENT/PATH_INVALID {path, problem} if it is no such path;
  // `field` is the one of the request that has it.
  static absl::StatusOr<RelativePath> Parse(absl::string_view text, Use use,
                                            absl::string_view field = "path");

  // As on disk, and as on the wire.
  const std::string& on_disk() const { return on_disk_; }
  const std::string& shown() const { return shown_; }

  // Of on_disk(): all but the last name, "" if there is but one; and the last.
  absl::string_view parent() const;
  absl::string_view name() const;

  // Whether it is one of kDirectories itself.
  bool is_top() const { return on_disk_.find('/') == std::string::npos; }

  // Whether this is `other` or lies below it.
  bool IsWithin(const RelativePath& other) const;

 private:
  RelativePath(std::string on_disk, absl::string_view shown)
      : on_disk_(std::move(on_disk)), shown_(shown) {}

  std::string on_disk_;
  std::string shown_;
};

// A name, or several joined by '/', as on the wire.
std::string ShowPath(absl::string_view on_disk);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_RELATIVE_PATH_H_
