#include "service/server/connections.h"

#include "grpcpp/security/server_credentials.h"

namespace mlops::server {

Connections::Connections(grpc::ServerBuilder& builder, TlsCredentials* tls) {
  using Type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  // gRPC listens on nothing itself; it only takes over accepted connections.
  unix_ = builder.experimental().AddExternalConnectionAcceptor(
      Type::FROM_FD, grpc::InsecureServerCredentials());
  tcp_ = builder.experimental().AddExternalConnectionAcceptor(
      Type::FROM_FD,
      tls == nullptr ? grpc::InsecureServerCredentials() : tls->credentials());
}

void Connections::Accept(Acceptor& acceptor) {
  acceptor.Start(
      [this](Acceptor::Transport transport, int listener_fd, int fd) {
        External::NewConnectionParameters connection;
        connection.listener_fd = listener_fd;
        connection.fd = fd;
        (transport == Acceptor::Transport::kUnix ? unix_ : tcp_)
            ->HandleNewConnection(&connection);
      });
}

}  // namespace mlops::server
