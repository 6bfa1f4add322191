#ifndef MLOPS_SERVICE_RPC_RECEIVE_QUOTA_H_
#define MLOPS_SERVICE_RPC_RECEIVE_QUOTA_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/resource_quota.h"

namespace mlops::rpc {

// gRPC's memory quota for received messages, including incomplete ones. When it
// is exhausted, gRPC closes idle connections and ends streams with
// RESOURCE_EXHAUSTED.
//
// Most of the quota is fixed, so that clients that begin large messages and
// never finish them cannot take much. Each started upload adds what its largest
// messages need; `--max-artifact-streams` bounds the number of uploads.
// Thread-safe.
class ReceiveQuota {
 public:
  ReceiveQuota();

  // Must be given to the server's builder.
  const grpc::ResourceQuota& quota() const { return quota_; }

  // Holds one upload's part of the quota until destruction.
  class Upload {
   public:
    explicit Upload(ReceiveQuota* quota) : quota_(quota) { quota_->Add(1); }
    ~Upload() { quota_->Add(-1); }
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;

   private:
    ReceiveQuota* const quota_;
  };

 private:
  void Add(int uploads) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  int uploads_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::ResourceQuota quota_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_RECEIVE_QUOTA_H_
