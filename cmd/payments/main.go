// Command payments runs the payments service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/payments"
)

func main() { service.Main(payments.Service, os.Args[1:]) }
