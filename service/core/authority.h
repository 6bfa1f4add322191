#ifndef MLOPS_SERVICE_CORE_AUTHORITY_H_
#define MLOPS_SERVICE_CORE_AUTHORITY_H_

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/core/catalog.h"
#include "service/core/filter.h"
#include "service/core/leases.h"
#include "service/core/name_policy.h"
#include "service/core/status_cache.h"
#include "service/core/template.h"
#include "service/core/update_rules.h"
#include "service/core/usage.h"
#include "service/core/workspace.h"

namespace mlops::core {

class UsageLedger;

inline constexpr int kDefaultPageSize = 100;
inline constexpr int kMaxPageSize = 1000;

struct CreateArgs {
  ProjectName project;
  Settings settings;
  // Whether absent settings stay absent, instead of getting their defaults.
  bool exact_settings = false;
  Metadata metadata = Metadata::object();
  Quota quota;
  std::string request_id;
  bool validate_only = false;
  // The name of a filled directory that becomes the workspace, or ""; see
  // CreateChange.
  std::string staged;
  // See Workspace::unknown_keys.
  std::string unknown_keys;
  // The template to create from. "" means the default template, unless
  // `staged` is given.
  std::string template_name;
};

// The projects that a caller may see. Lists and counts treat all others as if
// they did not exist.
struct Sight {
  // Identifies the caller, so that nobody else can use its page tokens. "" if
  // the caller sees everything.
  std::string caller;
  // Whether the caller sees a project. Null if it sees all of them.
  std::function<bool(absl::string_view project)> sees;

  bool everything() const { return sees == nullptr; }
};

struct ListArgs {
  int page_size = 0;
  std::string page_token;
  Filter filter;
  std::string order_by;
  bool show_deleted = false;
  Sight sight;
};

// Offers a workspace to a page. `left` is the number of workspaces that are
// still to be offered, including this one. Returns false if the page has no
// room for it, which ends the page. The first workspace always fits.
using PageTaker =
    absl::FunctionRef<bool(const Workspace& workspace, size_t left)>;

struct ListResult {
  std::vector<WorkspacePtr> workspaces;
  std::string next_page_token;
  int64_t total_size = 0;
  std::vector<std::string> unreachable;
};

struct UpdateArgs {
  ProjectName project;
  std::string etag;
  UpdateSpec spec;
  bool allow_missing = false;
  bool validate_only = false;
  // The fence of the caller's lease; 0 if it has none.
  int64_t fence = 0;
};

struct UpdateResult {
  WorkspacePtr workspace;
  std::string old_etag;  // "" if the workspace was created.
};

struct DeleteArgs {
  ProjectName project;
  bool force = false;
  std::string etag;
  std::string uid;
  bool allow_missing = false;
  bool permanent = false;
  // Leaves a live workspace alone. Requires `permanent` and `uid`.
  bool only_deleted = false;
  bool validate_only = false;
  int64_t fence = 0;
};

struct DeleteResult {
  WorkspacePtr workspace;  // Null if there was none.
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  bool purged = false;
};

struct EnsureResult {
  WorkspacePtr workspace;
  bool created = false;
};

struct StatusResult {
  WorkspacePtr workspace;
  Usage usage;
  // Whether `usage` exceeds the workspace's quota. Counts without sizes can
  // exceed only the limit on the number of files.
  bool over_quota = false;
};

// Implements the service's operations: takes typed values, decides by pure
// rules, and has the catalog carry out the decision. Each public method
// implements one RPC, unless its comment says otherwise;
// workspace_service.proto lists the errors.
//
// Thread-safe. Changes to one project run one after the other. It holds no lock
// while it walks a directory tree. Methods that may take long poll `cancelled`,
// and return CANCELLED once it returns true.
class Authority {
 public:
  // `catalog` and `leases` must outlive this object. With null `leases`, leases
  // exist only in memory. `base_path` is the real absolute path of the base
  // directory.
  Authority(Catalog* catalog, UsageScanner scanner, std::string base_path,
            base::Clock clock = base::SystemClock(),
            base::SteadyClock steady_clock = base::SystemSteadyClock(),
            Leases* leases = nullptr);

  // The next three methods are not thread-safe: call them before any other.
  // Requires that `policy` allows the name of every new or restored workspace.
  void SetNamePolicy(NamePolicy policy) { name_policy_ = std::move(policy); }
  // Reports changed quotas and deletions to `ledger`, which must outlive this
  // object.
  void SetUsageLedger(UsageLedger* ledger) { ledger_ = ledger; }
  // Enables the templates of `source`, which must outlive this object. Requests
  // that name no template use `default_template`; "" means none.
  void SetTemplates(TemplateSource* source, std::string default_template);
  // Returns whether Create() or Ensure() with `args` reads a template from
  // disk.
  bool UsesTemplate(const CreateArgs& args) const {
    return !TemplateOf(args).empty();
  }

  absl::StatusOr<WorkspacePtr> Create(const CreateArgs& args);
  absl::StatusOr<WorkspacePtr> Get(const ProjectName& project);
  absl::StatusOr<ListResult> List(
      const ListArgs& args, Cancelled cancelled = NeverCancelled,
      PageTaker take = [](const Workspace&, size_t) { return true; });
  absl::StatusOr<UpdateResult> Update(const UpdateArgs& args);
  absl::StatusOr<DeleteResult> Delete(const DeleteArgs& args,
                                      Cancelled cancelled = NeverCancelled);
  absl::StatusOr<EnsureResult> Ensure(const CreateArgs& args);
  absl::StatusOr<WorkspacePtr> Undelete(const ProjectName& project,
                                        const std::string& uid);
  absl::StatusOr<StatusResult> Status(const ProjectName& project,
                                      const StatusArgs& args,
                                      Cancelled cancelled);
  // Like Status(), for the workspace with `uid` in the trash.
  absl::StatusOr<StatusResult> StatusInTrash(const ProjectName& project,
                                             const std::string& uid,
                                             const StatusArgs& args,
                                             Cancelled cancelled);

  absl::StatusOr<Leases::Acquired> AcquireLease(const ProjectName& project,
                                                const std::string& holder,
                                                absl::Duration ttl);
  // Returns whether there was a lease.
  absl::StatusOr<bool> ReleaseLease(const ProjectName& project,
                                    const std::string& holder, bool force);

  // Returns the live lease of a workspace. Cheap. Not an RPC.
  std::optional<Lease> LeaseOf(const Workspace& workspace) const;

  // Ends leases that have expired. Call it a few times a second. Not an RPC.
  void EndExpiredLeases();

  // Returns the number of leases. Not an RPC.
  size_t lease_count() const { return leases_->count(); }

  // Does the part of Ensure that never blocks on a lock or a write: returns the
  // workspace if it exists, and NOT_FOUND if Ensure would create it. Do not
  // call it if UsesTemplate(), because reading a template may block.
  absl::StatusOr<WorkspacePtr> EnsureExisting(const CreateArgs& args);

  // Counts the files of `workspace`, which may be in the trash. Returns
  // NOT_FOUND if it is no longer there. Part of the RPCs that return statuses.
  absl::StatusOr<StatusResult> CountFiles(WorkspacePtr workspace,
                                          const StatusArgs& args,
                                          Cancelled cancelled);

  // Returns INVALID_ARGUMENT/FIELD_INVALID if the name policy forbids a new
  // workspace of that name. Not an RPC.
  absl::Status CheckNewName(const ProjectName& project) const {
    return name_policy_.Check(project);
  }
  // Returns the workspace `project` if the request `request_id` created it, and
  // null if it does not exist. Returns ALREADY_EXISTS/WORKSPACE_EXISTS if
  // another request created it or `request_id` is "", and Get()'s other errors.
  // Not an RPC.
  absl::StatusOr<WorkspacePtr> FindRepeated(const ProjectName& project,
                                            const std::string& request_id);
  // Returns the arguments that create a copy of `source`. Derives again the
  // settings that depend on its name or location, as for a copy by hand. Not an
  // RPC.
  CreateArgs ArgsOfClone(const Workspace& source,
                         const ProjectName& destination) const;

  // Returns the memory that cached usages take, in bytes. Not an RPC.
  size_t cache_bytes() const { return status_cache_.bytes(); }

  // Returns the number of visible workspaces outside the trash. Not an RPC.
  absl::StatusOr<int64_t> Count(Sight sight = {});

 private:
  absl::StatusOr<ListPage> ListMatching(const ListArgs& args, ListQuery query,
                                        int64_t matching_count,
                                        Cancelled cancelled);
  absl::StatusOr<Workspace> NewFrom(const CreateArgs& args) const;
  // Arguments to which a template was applied, and its files.
  struct Prepared {
    CreateArgs args;
    // Null without a template.
    TemplatePtr tmpl;
    // Null if the template has no files, or they are not staged yet.
    std::unique_ptr<StagedFiles> files;
  };
  // Returns the name of the template to create from, or "".
  const std::string& TemplateOf(const CreateArgs& args) const;
  // Applies the template, if any, and validates the result.
  absl::StatusOr<Prepared> Prepare(CreateArgs args) const;
  TemplateVariables Variables(const ProjectName& project) const;
  // Stages the template's files, if they fit into the quota. With
  // validate_only, only checks the quota. Call it without a lock, and only if
  // the workspace will probably be created, because it copies files.
  absl::Status Fill(Prepared& prepared) const;
  absl::StatusOr<WorkspacePtr> CreateLocked(const CreateArgs& args);
  // Creates a missing workspace from `to_create`. That is null if the workspace
  // was not missing before the caller took the lock, or must not be created.
  absl::StatusOr<UpdateResult> UpdateLocked(const UpdateArgs& args,
                                            const CreateArgs* to_create);
  absl::StatusOr<DeleteResult> DeleteNow(const DeleteArgs& args,
                                         Cancelled cancelled);
  absl::StatusOr<DeleteResult> WouldDelete(const DeleteArgs& args,
                                           Cancelled cancelled);
  absl::StatusOr<WorkspacePtr> MoveToTrash(const DeleteArgs& args);
  absl::StatusOr<WorkspacePtr> FindDeleted(const ProjectName& project,
                                           const std::string& uid);
  absl::Mutex& Stripe(const ProjectName& project);

  Catalog* const catalog_;
  const std::string base_path_;
  const base::Clock clock_;
  StatusCache status_cache_;
  NamePolicy name_policy_;
  UsageLedger* ledger_ = nullptr;
  TemplateSource* templates_ = nullptr;
  std::string default_template_;
  const std::unique_ptr<Leases> own_leases_;
  Leases* const leases_;
  // A change to a project holds the mutex that the project's name hashes to.
  std::array<absl::Mutex, 256> stripes_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_AUTHORITY_H_
