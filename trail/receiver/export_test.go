package receiver

import "google.golang.org/grpc/encoding"

// Plain returns a codec that sends bytes as they are.
func Plain() encoding.CodecV2 { return plain{} }
