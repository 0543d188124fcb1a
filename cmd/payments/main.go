// Command payments runs the payments service against the NATS server at NATS_URL.
package main

import (
	"ordertrail/internal/service"
	"ordertrail/services/payments"
)

func main() { service.Main(payments.Name, "", payments.Wire) }
