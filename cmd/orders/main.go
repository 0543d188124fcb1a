// Command orders runs the orders service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/storefront"
)

func main() { service.Main(storefront.Service(nil, nil), os.Args[1:]) }
