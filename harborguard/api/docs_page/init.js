// The badge of a validator would be the one request to another host.
window.ui = SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#reference",
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
});
