"""What people see: the pages, and in `parts` what several pages draw. They know Streamlit and `rag`, nothing below it."""
