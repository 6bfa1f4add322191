#ifndef MLOPS_SERVICE_SERVER_CONNECTIONS_H_
#define MLOPS_SERVICE_SERVER_CONNECTIONS_H_

#include <memory>

#include "grpcpp/server_builder.h"
#include "service/server/acceptor.h"
#include "service/server/credentials.h"

namespace mlops::server {

// Hands the connections that an Acceptor accepts to a gRPC server.
class Connections {
 public:
  // Makes the server of `builder` take the connections. TCP connections use
  // `tls`, unless it is null. Connections to Unix sockets are not encrypted.
  Connections(grpc::ServerBuilder& builder, TlsCredentials* tls);

  // Starts `acceptor`. The server must have started. Stop `acceptor` before the
  // server shuts down and before this object is destroyed.
  void Accept(Acceptor& acceptor);

 private:
  using External = grpc::experimental::ExternalConnectionAcceptor;

  std::unique_ptr<External> unix_;
  std::unique_ptr<External> tcp_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_CONNECTIONS_H_
