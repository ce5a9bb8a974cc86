"""The gRPC services: wire messages in, engine calls, wire messages out."""
