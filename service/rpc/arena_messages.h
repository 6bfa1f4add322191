#ifndef MLOPS_SERVICE_RPC_ARENA_MESSAGES_H_
#define MLOPS_SERVICE_RPC_ARENA_MESSAGES_H_

#include "google/protobuf/arena.h"
#include "grpcpp/support/message_allocator.h"

namespace mlops::rpc {

// Lays the request and the response of a call, with all they hold, into one piece of memory, which is freed at once:
// for methods that are called so often that the many small pieces of a message count. Thread-safe.
template <typename Request, typename Response>
class ArenaMessages final : public grpc::MessageAllocator<Request, Response> {
 public:
  grpc::MessageHolder<Request, Response>* AllocateMessages() override { return new Holder; }

 private:
  class Holder final : public grpc::MessageHolder<Request, Response> {
   public:
    Holder() : arena_(block_, sizeof(block_)) {
      this->set_request(google::protobuf::Arena::CreateMessage<Request>(&arena_));
      this->set_response(google::protobuf::Arena::CreateMessage<Response>(&arena_));
    }
    void Release() override { delete this; }

   private:
    alignas(8) char block_[4096];  // Enough for most; a larger message gets more.
    google::protobuf::Arena arena_;
  };
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARENA_MESSAGES_H_
