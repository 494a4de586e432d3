"""The vLLM engine: workers that steer each request separately, and an OpenAI-compatible server on top of them."""
