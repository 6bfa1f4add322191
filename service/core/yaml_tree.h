#ifndef MLOPS_SERVICE_CORE_YAML_TREE_H_
#define MLOPS_SERVICE_CORE_YAML_TREE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

// YAML 1.1 as PyYAML's safe_load reads it, without what a record has no use
// for. Pure and thread-safe.
namespace mlops::core::yaml {

struct Entry;

// A document as it was written: what a scalar means is decided by Resolve().
struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  std::string text;  // Of a scalar.
  // Whether a scalar stood without quotes, so that it may be more than a
  // string.
  bool plain = false;
  int line = 0;  // Where it begins, from 1.
  std::vector<Node> items;
  std::vector<Entry> entries;  // Keys are scalars and all different.
};

struct Entry {
  Node key;
  Node value;
};

struct Problem {
  int line = 0;  // From 1; 0 means the document as a whole.
  std::string what;
};

// Parses one document. A problem if it is empty, ill-formed, not UTF-8, has a
// NUL, is nested deeper than 64 levels, or has several documents, duplicate
// keys, merge keys, anchors, aliases or tags.
std::optional<Problem> Parse(absl::string_view text, Node* root);

// What a node is in JSON. Plain scalars mean what they mean to PyYAML, but for
// dates, which stay strings. A problem if a number is not finite, or an integer
// does not lie within ±(2^53 - 1).
std::optional<Problem> Resolve(const Node& node, nlohmann::json* value);

// Appends `key: value` at `indent` spaces, in block style, with a newline at
// the end.
void AppendEntry(absl::string_view key, const nlohmann::json& value, int indent,
                 std::string& out);

// Appends an entry as it was written: plain scalars stay plain, quoted ones
// quoted.
void AppendEntry(const Node& key, const Node& value, int indent,
                 std::string& out);

}  // namespace mlops::core::yaml

#endif  // MLOPS_SERVICE_CORE_YAML_TREE_H_
