#include "service/core/filter.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/filter_spelling.h"
#include "service/core/iso_time.h"

namespace mlops::core {
namespace {

// Maximum depth of nested parentheses, because the parser recurses into them.
constexpr int kMaxDepth = 32;

enum class Operator {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kHas
};

struct OperatorText {
  absl::string_view text;
  Operator value;
};
constexpr std::array<OperatorText, 7> kOperators = {
    {{"!=", Operator::kNotEqual},
     {"<=", Operator::kLessEqual},
     {">=", Operator::kGreaterEqual},
     {"=", Operator::kEqual},
     {"<", Operator::kLess},
     {">", Operator::kGreater},
     {":", Operator::kHas}}};

enum class Field { kProject, kSetting, kCreateTime, kUpdateTime, kMetadata };

// A value as written, and its possible meanings.
struct Value {
  std::string text;
  // Whether a `*` precedes the text.
  bool open_begin = false;
  // Whether a `*` follows the text.
  bool open_end = false;
  bool quoted = false;
  std::optional<double> number;
  std::optional<absl::Time> time;

  bool anything() const { return text.empty() && (open_begin || open_end); }
};

struct Term {
  Field field = Field::kProject;
  const SettingField* setting = nullptr;
  // Keys of the metadata, outermost first.
  std::vector<std::string> keys;
  Operator op = Operator::kEqual;
  Value value;
};

// --- Evaluation ---

bool EqualText(absl::string_view text, const Value& value) {
  if (value.open_begin && value.open_end)
    return absl::StrContains(text, value.text);
  if (value.open_begin) return absl::EndsWith(text, value.text);
  if (value.open_end) return absl::StartsWith(text, value.text);
  return text == value.text;
}

template <typename T>
bool Compare(const T& left, Operator op, const T& right) {
  switch (op) {
    case Operator::kNotEqual:
      return left != right;
    case Operator::kLess:
      return left < right;
    case Operator::kLessEqual:
      return left <= right;
    case Operator::kGreater:
      return left > right;
    case Operator::kGreaterEqual:
      return left >= right;
    case Operator::kEqual:
    case Operator::kHas:
      break;
  }
  return left == right;
}

bool MatchesText(absl::string_view text, Operator op, const Value& value) {
  switch (op) {
    case Operator::kHas:
      return absl::StrContains(text, value.text);
    case Operator::kEqual:
      return EqualText(text, value);
    case Operator::kNotEqual:
      return !EqualText(text, value);
    default:
      return Compare<absl::string_view>(text, op, value.text);
  }
}

bool MatchesTime(absl::Time time, Operator op, const Value& value) {
  return value.anything() || Compare(time, op, *value.time);
}

bool EqualScalar(const Metadata& actual, const Value& value) {
  if (actual.is_string())
    return EqualText(actual.get_ref<const std::string&>(), value);
  // A quoted value is text, and never equals a number, bool or null.
  if (value.quoted) return false;
  if (actual.is_number())
    return value.number && actual.get<double>() == *value.number;
  if (actual.is_boolean())
    return value.text == (actual.get<bool>() ? "true" : "false");
  return actual.is_null() && value.text == "null";
}

bool Has(const Metadata& actual, const Value& value) {
  // `field:*` asks whether a value is present, and null counts as none.
  if (value.anything()) return !actual.is_null();
  if (actual.is_string())
    return absl::StrContains(actual.get_ref<const std::string&>(), value.text);
  if (actual.is_object()) return actual.contains(value.text);
  if (!actual.is_array()) return EqualScalar(actual, value);
  return std::any_of(actual.begin(), actual.end(), [&](const Metadata& item) {
    return EqualScalar(item, value);
  });
}

bool MatchesMetadata(const Metadata& actual, Operator op, const Value& value) {
  switch (op) {
    case Operator::kHas:
      return Has(actual, value);
    case Operator::kEqual:
      return EqualScalar(actual, value);
    case Operator::kNotEqual:
      return !EqualScalar(actual, value);
    default:
      if (actual.is_string())
        return MatchesText(actual.get_ref<const std::string&>(), op, value);
      return actual.is_number() && value.number &&
             Compare(actual.get<double>(), op, *value.number);
  }
}

// Returns null if the metadata has no such value.
const Metadata* FindMetadata(const Metadata& metadata,
                             const std::vector<std::string>& keys) {
  const Metadata* found = &metadata;
  for (const std::string& key : keys) {
    if (!found->is_object()) return nullptr;
    const auto it = found->find(key);
    if (it == found->end()) return nullptr;
    found = &*it;
  }
  return found;
}

bool MatchesTerm(const Term& term, const Workspace& workspace) {
  switch (term.field) {
    case Field::kProject:
      return MatchesText(workspace.project.str(), term.op, term.value);
    case Field::kSetting: {
      const std::optional<std::string>& setting =
          workspace.settings.*term.setting->member;
      return setting && MatchesText(*setting, term.op, term.value);
    }
    case Field::kCreateTime:
      return MatchesTime(workspace.create_time, term.op, term.value);
    case Field::kUpdateTime:
      return MatchesTime(workspace.update_time, term.op, term.value);
    case Field::kMetadata:
      break;
  }
  const Metadata* actual = FindMetadata(workspace.metadata, term.keys);
  return actual != nullptr && MatchesMetadata(*actual, term.op, term.value);
}

}  // namespace

struct Filter::Node {
  enum class Kind { kAll, kAny, kNot, kTerm };

  Kind kind = Kind::kTerm;
  std::vector<Node> children;
  Term term;
};

namespace {

using Node = Filter::Node;

bool MatchesNode(const Node& node, const Workspace& workspace) {
  const auto matches = [&workspace](const Node& child) {
    return MatchesNode(child, workspace);
  };
  switch (node.kind) {
    case Node::Kind::kAll:
      return std::all_of(node.children.begin(), node.children.end(), matches);
    case Node::Kind::kAny:
      return std::any_of(node.children.begin(), node.children.end(), matches);
    case Node::Kind::kNot:
      return !matches(node.children.front());
    case Node::Kind::kTerm:
      break;
  }
  return MatchesTerm(node.term, workspace);
}

// --- Parsing ---

bool IsQuote(char c) { return c == '"' || c == '\''; }

// Parses by recursive descent, with one method per rule of the grammar.
class Parser {
 public:
  explicit Parser(absl::string_view text) : text_(text) {}

  // expression, up to the end
  absl::StatusOr<Node> Parse() {
    ASSIGN_OR_RETURN(Node node, Expression());
    SkipSpace();
    if (!AtEnd()) return Expected("the end, AND or OR");
    return node;
  }

  bool AtEnd() const { return at_ == text_.size(); }
  void SkipSpace() {
    while (!AtEnd() && absl::ascii_isspace(text_[at_])) ++at_;
  }

 private:
  struct PathText {
    std::vector<std::string> names;
    // Whether the first name was quoted, so that it cannot be a field.
    bool quoted = false;
    // Position of the first unquoted character that must be quoted in a key.
    std::optional<size_t> odd_character;
  };

  // factor { [AND] factor }
  absl::StatusOr<Node> Expression() {
    Node all{.kind = Node::Kind::kAll};
    while (true) {
      ASSIGN_OR_RETURN(Node factor, Factor());
      all.children.push_back(std::move(factor));
      SkipSpace();
      if (AcceptWord("AND")) continue;
      if (AtEnd() || Peek() == ')') break;
    }
    return Simplified(std::move(all));
  }

  // term { OR term }
  absl::StatusOr<Node> Factor() {
    Node any{.kind = Node::Kind::kAny};
    do {
      ASSIGN_OR_RETURN(Node term, MaybeNegated());
      any.children.push_back(std::move(term));
      SkipSpace();
    } while (AcceptWord("OR"));
    return Simplified(std::move(any));
  }

  // [ NOT | - ] simple
  absl::StatusOr<Node> MaybeNegated() {
    SkipSpace();
    bool negated = AcceptWord("NOT");
    if (!negated && Peek() == '-') {
      ++at_;
      negated = true;
    }
    ASSIGN_OR_RETURN(Node simple, Simple());
    if (!negated) return simple;
    Node node{.kind = Node::Kind::kNot};
    node.children.push_back(std::move(simple));
    return node;
  }

  // ( expression ) | restriction
  absl::StatusOr<Node> Simple() {
    SkipSpace();
    if (Peek() != '(') return Restriction();
    if (++depth_ > kMaxDepth)
      return Problem(
          at_, absl::StrCat("is nested deeper than ", kMaxDepth, " levels"));
    const size_t begin = at_++;
    ASSIGN_OR_RETURN(Node node, Expression());
    if (Peek() != ')')
      return Expected(
          absl::StrCat(") for the ( at position ", begin, ", AND or OR"));
    ++at_;
    --depth_;
    return node;
  }

  // field operator value | value
  absl::StatusOr<Node> Restriction() {
    const size_t begin = at_;
    if (IsKeywordAhead()) return Expected("a term");
    RETURN_IF_ERROR(CheckNotForeign());
    // Bound the work of a list, which evaluates each term for each workspace.
    if (++terms_ > kMaxFilterTerms)
      return Problem(at_,
                     absl::StrCat("has more than ", kMaxFilterTerms, " terms"));
    // Parse the path first: only the text after it shows whether this is a
    // comparison or a lone value.
    PathText path;
    RETURN_IF_ERROR(ParsePath(path));
    const size_t end = at_;
    SkipSpace();
    ASSIGN_OR_RETURN(const std::optional<Operator> op, AcceptOperator());
    if (op) return Comparison(begin, path, *op);

    // Check for foreign operators before the field: in `project like x` the
    // wrong word is `like`, not `project`.
    RETURN_IF_ERROR(CheckNotForeign());
    if (!path.quoted && FindField(path.names.front()).has_value()) {
      return Problem(
          end,
          absl::StrCat("expected an operator and a value after the field ",
                       base::Echo(text_.substr(begin, end - begin)),
                       "; quote it if it is a part of the project's name"));
    }
    // Not a comparison: parse the same text again as a value.
    at_ = begin;
    return NamePart();
  }

  // Parses the value of `field operator value`. The field begins at `begin`.
  absl::StatusOr<Node> Comparison(size_t begin, PathText& path, Operator op) {
    Node node{.kind = Node::Kind::kTerm};
    RETURN_IF_ERROR(SetField(begin, path, node.term));
    node.term.op = op;
    SkipSpace();
    ASSIGN_OR_RETURN(node.term.value, ValueOf(node.term));
    // `= *` matches any value, including values other than text.
    const bool anything = node.term.value.anything() && !node.term.value.quoted;
    if (anything && node.term.field == Field::kMetadata)
      node.term.op = Operator::kHas;
    return node;
  }

  // Parses a lone value: text that the project's name contains.
  absl::StatusOr<Node> NamePart() {
    const size_t begin = at_;
    Node node{.kind = Node::Kind::kTerm};
    ASSIGN_OR_RETURN(node.term.value, AnyValue());
    if (!node.term.value.quoted) RETURN_IF_ERROR(CheckProjectText(begin));
    // A lone value matches anywhere in the name, unless a `*` says where.
    const bool pattern = node.term.value.open_begin || node.term.value.open_end;
    node.term.op = pattern ? Operator::kEqual : Operator::kHas;
    return node;
  }

  // name { . name }, each a word or quoted
  absl::Status ParsePath(PathText& path) {
    path.quoted = IsQuote(Peek());
    while (true) {
      if (IsQuote(Peek())) {
        ASSIGN_OR_RETURN(std::string name, Quoted());
        path.names.push_back(std::move(name));
      } else {
        const size_t begin = at_;
        // Accept odd characters for now: the text may be a lone value, which
        // permits more of them than a key.
        for (; !AtEnd() && IsNameCharacter(Peek()); ++at_) {
          if (!path.odd_character && !IsPlainKeyAt(at_))
            path.odd_character = at_;
        }
        if (at_ == begin)
          return Expected(path.names.empty() ? "a term"
                                             : "a key after the dot");
        path.names.emplace_back(text_.substr(begin, at_ - begin));
      }
      if (Peek() != '.') return absl::OkStatus();
      ++at_;
    }
  }

  struct FieldAndSetting {
    Field field;
    const SettingField* setting = nullptr;
  };

  static std::optional<FieldAndSetting> FindField(absl::string_view name) {
    if (name == "project") return FieldAndSetting{Field::kProject};
    if (name == "create_time") return FieldAndSetting{Field::kCreateTime};
    if (name == "update_time") return FieldAndSetting{Field::kUpdateTime};
    if (name == "metadata") return FieldAndSetting{Field::kMetadata};
    const auto is_setting = [&](const SettingField& field) {
      return field.name == name;
    };
    const auto setting =
        std::find_if(kSettingFields.begin(), kSettingFields.end(), is_setting);
    if (setting == kSettingFields.end()) return std::nullopt;
    return FieldAndSetting{Field::kSetting, &*setting};
  }

  absl::Status SetField(size_t begin, PathText& path, Term& term) {
    const auto found = FindField(path.names.front());
    const bool has_keys = path.names.size() > 1;
    // A quoted name is text, not a field, and only the metadata has keys.
    if (path.quoted || !found ||
        (has_keys && found->field != Field::kMetadata)) {
      return NoField(begin, absl::StrJoin(path.names, "."));
    }
    if (path.odd_character)
      return OddCharacter(*path.odd_character, "a key of the metadata");
    term.field = found->field;
    term.setting = found->setting;
    term.keys.assign(std::make_move_iterator(path.names.begin() + 1),
                     std::make_move_iterator(path.names.end()));
    return absl::OkStatus();
  }

  // Parses a value and checks it against the field and operator of `term`.
  absl::StatusOr<Value> ValueOf(const Term& term) {
    const size_t begin = at_;
    ASSIGN_OR_RETURN(Value value, AnyValue());
    const bool pattern = value.open_begin || value.open_end;
    const bool presence =
        term.op == Operator::kHas && value.anything() && !value.quoted;
    if (presence) return value;
    // Reject values that cannot match anything with this operator.
    if (value.anything() && term.op == Operator::kNotEqual) {
      return Problem(begin,
                     "expected NOT FIELD:* for an absent field; != * "
                     "matches nothing");
    }
    if (pattern && term.op != Operator::kEqual &&
        term.op != Operator::kNotEqual) {
      return Problem(begin,
                     "expected a value without *, which only = and != accept");
    }
    if (term.field == Field::kMetadata && term.keys.empty() &&
        term.op != Operator::kHas) {
      return Problem(begin,
                     "expected a key of the metadata before the operator, as "
                     "in metadata.stage = x");
    }
    if (term.field == Field::kCreateTime || term.field == Field::kUpdateTime) {
      value.time = ParseIsoTime(value.text);
      if (pattern || !value.time)
        return Problem(begin,
                       "expected a time such as \"2026-01-31T12:00:00Z\"");
    }
    if (value.quoted) return value;
    if (term.field == Field::kProject) RETURN_IF_ERROR(CheckProjectText(begin));
    if (term.field == Field::kMetadata)
      RETURN_IF_ERROR(CheckConstant(begin, value.text));
    return value;
  }

  // Parses a quoted string, or a word up to a space or parenthesis.
  absl::StatusOr<Value> AnyValue() {
    Value value;
    if (AtEnd() || IsOperatorCharacter(Peek()) || IsKeywordAhead())
      return Expected("a value");
    RETURN_IF_ERROR(CheckNotForeignWord());
    if (IsQuote(Peek())) {
      ASSIGN_OR_RETURN(value.text, Quoted(&value.open_begin, &value.open_end));
      value.quoted = true;
    } else {
      RETURN_IF_ERROR(Word(value));
    }
    if (Peek() == '(') return Expected("a space (there are no functions)");
    if (!AtEnd() && !EndsValue(Peek())) return Expected("a space");
    return value;
  }

  // Parses a value outside quotes.
  absl::Status Word(Value& value) {
    const size_t begin = at_;
    for (; !AtEnd() && !EndsValue(Peek()); ++at_) {
      if (IsQuote(Peek())) return Expected("a space");
      if (!IsValueAt(at_)) return OddCharacter(at_, "a value");
    }
    absl::string_view word = text_.substr(begin, at_ - begin);
    if (word.empty() || word == "-") return Problem(begin, "expected a value");
    double number;
    if (absl::SimpleAtod(word, &number)) value.number = number;
    value.open_begin = absl::ConsumePrefix(&word, "*");
    value.open_end = absl::ConsumeSuffix(&word, "*");
    // A `*` inside the word would be compared literally.
    if (const size_t star = word.find('*'); star != absl::string_view::npos) {
      return Problem(begin + star + value.open_begin,
                     "expected * at either end of a value, not within");
    }
    value.text = std::string(word);
    return absl::OkStatus();
  }

  // Parses the text between quotes. If the caller accepts patterns, an
  // unescaped `*` at either end is not part of the text.
  absl::StatusOr<std::string> Quoted(bool* open_begin = nullptr,
                                     bool* open_end = nullptr) {
    const size_t begin = at_;
    const char quote = text_[at_++];
    std::string content;
    // Whether a `*` is the last one shows only at the closing quote.
    bool last_is_star = false;
    for (; !AtEnd() && Peek() != quote; ++at_) {
      last_is_star = Peek() == '*' && open_end != nullptr;
      if (last_is_star && at_ == begin + 1) {
        *open_begin = true;
        last_is_star = false;
        continue;
      }
      if (Peek() == '\\' && ++at_ == text_.size()) break;
      content += Peek();
    }
    if (AtEnd())
      return Problem(
          begin, absl::StrCat("expected a second ",
                              absl::string_view(&quote, 1), " for this one"));
    ++at_;
    // The content ends with an unescaped `*`.
    if (last_is_star) {
      *open_end = true;
      content.pop_back();
    }
    return content;
  }

  // Takes all adjacent symbols at once, so that it does not read `==` and `=~`
  // as `=` and the beginning of a value.
  absl::StatusOr<std::optional<Operator>> AcceptOperator() {
    size_t end = at_;
    while (end < text_.size() && absl::StrContains("=!<>:~&|^", text_[end]))
      ++end;
    const absl::string_view symbols = text_.substr(at_, end - at_);
    if (symbols.empty()) return std::nullopt;
    for (const OperatorText& op : kOperators) {
      if (symbols != op.text) continue;
      at_ = end;
      return op.value;
    }
    if (const auto foreign = FindForeignSymbol(symbols))
      return Foreign(at_, symbols, foreign->instead);
    return Expected("one of = != < <= > >= :");
  }

  // --- Rejecting text that would be misread ---

  // Rejects another language's operator where a term may begin.
  absl::Status CheckNotForeign() const {
    RETURN_IF_ERROR(CheckNotForeignWord());
    const absl::string_view rest = text_.substr(at_);
    // `!=` is ours, although `!` alone is foreign.
    if (absl::StartsWith(rest, "!=")) return absl::OkStatus();
    const auto foreign = FindForeignSymbol(rest);
    return foreign
               ? Foreign(at_, rest.substr(0, foreign->size), foreign->instead)
               : absl::OkStatus();
  }

  absl::Status CheckNotForeignWord() const {
    size_t end = at_;
    while (end < text_.size() &&
           (IsNameCharacter(text_[end]) || text_[end] == '.'))
      ++end;
    const absl::string_view word = text_.substr(at_, end - at_);
    const auto ours = SpellingOfWord(word);
    return ours ? Foreign(at_, word, *ours) : absl::OkStatus();
  }

  // Rejects characters that no project's name contains, in the word from
  // `begin` to the current position. Such a word could not match anything.
  absl::Status CheckProjectText(size_t begin) const {
    for (size_t i = begin; i < at_; ++i) {
      const char c = text_[i];
      if (!absl::ascii_isalnum(c) && !absl::StrContains("._-*", c))
        return OddCharacter(i, "a project's name");
    }
    return absl::OkStatus();
  }

  // Rejects `True` and the like, which are not constants here but are hardly
  // meant as text.
  absl::Status CheckConstant(size_t position, absl::string_view text) const {
    const auto ours = SpellingOfConstant(text);
    return ours ? Foreign(position, text, *ours) : absl::OkStatus();
  }

  bool IsPlainKeyAt(size_t position) const {
    const char c = text_[position];
    if (absl::ascii_isalnum(c) || c == '_' || c == '-') return true;
    return !absl::ascii_isascii(c) &&
           !FindForeignSymbol(text_.substr(position));
  }

  // Returns whether the character at `position` may be part of a value
  // outside quotes.
  bool IsValueAt(size_t position) const {
    const char c = text_[position];
    if (absl::ascii_isascii(c)) return !absl::StrContains("=<>&|,;[]{}`", c);
    return !FindForeignSymbol(text_.substr(position));
  }

  absl::Status Foreign(size_t position, absl::string_view found,
                       absl::string_view ours) const {
    return Problem(position,
                   absl::StrCat("expected ", ours, ", not ", base::Echo(found),
                                "; write it in quotes if it is meant as text"));
  }

  absl::Status OddCharacter(size_t position, absl::string_view where) const {
    const absl::string_view rest = text_.substr(position);
    if (const auto foreign = FindForeignSymbol(rest)) {
      return Foreign(position, rest.substr(0, foreign->size), foreign->instead);
    }
    return Problem(position,
                   absl::StrCat("expected quotes around ", where, " with ",
                                base::Echo(rest.substr(0, 1))));
  }

  bool IsWordAhead(absl::string_view word) const {
    if (!absl::StartsWith(text_.substr(at_), word)) return false;
    const size_t end = at_ + word.size();
    return end == text_.size() || absl::ascii_isspace(text_[end]) ||
           text_[end] == '(' || text_[end] == ')';
  }

  bool IsKeywordAhead() const {
    return IsWordAhead("AND") || IsWordAhead("OR") || IsWordAhead("NOT");
  }

  bool AcceptWord(absl::string_view word) {
    if (!IsWordAhead(word)) return false;
    at_ += word.size();
    return true;
  }

  static bool IsOperatorCharacter(char c) {
    return absl::StrContains("=!<>:", c);
  }
  static bool EndsValue(char c) {
    return absl::ascii_isspace(c) || c == '(' || c == ')';
  }
  static bool IsNameCharacter(char c) {
    return !EndsValue(c) && !IsOperatorCharacter(c) && !IsQuote(c) &&
           !absl::StrContains(".,;[]{}", c);
  }

  // Returns the only child of `node`, or `node` if it has several.
  static Node Simplified(Node node) {
    if (node.children.size() > 1) return node;
    Node only = std::move(node.children.front());
    return only;
  }

  // Returns NUL at the end, which no rule accepts.
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }

  absl::Status NoField(size_t position, absl::string_view name) const {
    return Problem(
        position,
        absl::StrCat(
            "there is no field ", base::Echo(name),
            "; expected project, mlflow_experiment_id, mlflow_tracking_uri, "
            "dvc_remote_path, bentoml_tag_prefix, create_time, update_time or "
            "metadata.KEY"));
  }

  absl::Status Expected(absl::string_view what) const {
    const std::string found =
        AtEnd() ? "the end" : base::Echo(text_.substr(at_, 20));
    return Problem(at_, absl::StrCat("expected ", what, ", not ", found));
  }

  static absl::Status Problem(size_t position, absl::string_view problem) {
    return FilterInvalid("filter", static_cast<int>(position), problem);
  }

  const absl::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  int terms_ = 0;
};

}  // namespace

absl::StatusOr<Filter> Filter::Parse(absl::string_view text) {
  if (text.size() > kMaxFilterBytes) {
    return FilterInvalid(
        "filter", kMaxFilterBytes,
        absl::StrCat("is longer than ", kMaxFilterBytes, " bytes"));
  }
  Parser parser(text);
  parser.SkipSpace();
  if (parser.AtEnd()) return Filter(nullptr, text);
  ASSIGN_OR_RETURN(Node root, parser.Parse());
  return Filter(std::make_shared<const Node>(std::move(root)), text);
}

bool Filter::Matches(const Workspace& workspace) const {
  return root_ == nullptr || MatchesNode(*root_, workspace);
}

}  // namespace mlops::core
